#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "capi/handles.hpp"
#include "cpu/isa.hpp"

namespace fastsr::capi {
namespace {

constexpr std::size_t kLargestFile = std::size_t{2} << 30;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Status cannot_read(const char* path, int error) {
  return {Code::file, std::string(path) + " cannot be read: " + std::generic_category().message(error)};
}

// All bytes of a file; `size` of them.
Status read_file(const char* path, AlignedFloats& bytes, std::size_t& size) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path, "rb"));
  if (!file) return cannot_read(path, errno);
  if (std::fgetc(file.get()) == EOF && std::ferror(file.get())) return cannot_read(path, errno);  // a folder
  if (std::fseek(file.get(), 0, SEEK_END) != 0) return cannot_read(path, errno);
  const long end = std::ftell(file.get());
  if (end < 0) return cannot_read(path, errno);
  size = static_cast<std::size_t>(end);
  if (size > kLargestFile) return {Code::model_file, std::string(path) + " is larger than 2 GiB: not a .fsr file"};
  if (!bytes.allocate(size / sizeof(float) + 1)) return {Code::out_of_memory, "there is no memory for the model"};
  std::rewind(file.get());
  if (std::fread(bytes.data(), 1, size, file.get()) != size) return cannot_read(path, errno ? errno : EIO);
  return {};
}

Status set_up(const fsr_model_options& options, fsr_model& model) {
  model.log = {options.log, options.log_user};
  Result<const Kernels*> kernels = select_isa(options.isa ? options.isa : "");
  if (!kernels.ok()) return kernels.status();
  model.kernels = kernels.value();
  return {};
}

Status fill(const void* bytes, std::size_t size, fsr_model& model) {
  Result<std::unique_ptr<Model>> made = Model::open(bytes, size);
  if (!made.ok()) return made.status();
  model.model = std::move(made.value());
  const ModelFile& file = model.model->file();
  for (const Graph& graph : file.graphs) {
    if (graph.channels != graph.out_channels) continue;
    model.networks.push_back({static_cast<std::uint32_t>(graph.scale), static_cast<std::uint32_t>(graph.channels)});
  }
  char line[512];
  std::snprintf(line, sizeof line, "model %.200s, sha256 %s, %s", file.name.c_str(), file.sha256.c_str(),
                model.kernels->name);
  model.log.say(FSR_LOG_INFO, line);
  return {};
}

Status read_allocator(const fsr_allocator* allocator, BlockSource& source) {
  if (!allocator) return {};
  fsr_allocator own = FSR_ALLOCATOR_INIT;
  FASTSR_TRY(read_struct(allocator, "allocator", own));
  if (!own.allocate || !own.release) return null_pointer("a function of the allocator");
  source = {own.allocate, own.release, own.user};
  return {};
}

// Open the model whose bytes `read(bytes, size)` finds.
template <class Read>
fsr_status open(const fsr_model_options* options, fsr_model** model, Read&& read) {
  if (!model) return guarded({}, [] { return null_pointer("model"); });
  *model = nullptr;
  fsr_model_options own = FSR_MODEL_OPTIONS_INIT;
  BlockSource source{};
  const fsr_status wrong = guarded({}, [&]() -> Status {
    FASTSR_TRY(read_struct(options, "options", own));
    return read_allocator(own.allocator, source);
  });
  if (wrong != FSR_OK) return wrong;
  const Log log{own.log, own.log_user};
  const BlockSource* blocks = source.allocate ? &source : nullptr;
  fsr_model* made = make_handle<fsr_model>(blocks);
  if (!made) return fail(log, FSR_ERROR_OUT_OF_MEMORY, "there is no memory for the model");
  made->source = source;
  const fsr_status status = guarded(log, [&]() -> Status {
    const BlockSourceScope scope(made->blocks());
    FASTSR_TRY(set_up(own, *made));
    const void* bytes = nullptr;
    std::size_t size = 0;
    FASTSR_TRY(read(bytes, size));
    return fill(bytes, size, *made);
  });
  if (status == FSR_OK) {
    *model = made;
  } else {
    leave(made);
  }
  return status;
}

}  // namespace

void leave(fsr_model* model) {
  if (model->users.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const BlockSource source = model->source;
  destroy_handle(model, source.allocate ? &source : nullptr);
}

}  // namespace fastsr::capi

using namespace fastsr::capi;

#define FSR_TEXT_OF(x) #x
#define FSR_TEXT(x) FSR_TEXT_OF(x)

const char* fsr_version(void) {
  return FSR_TEXT(FSR_VERSION_MAJOR) "." FSR_TEXT(FSR_VERSION_MINOR) "." FSR_TEXT(FSR_VERSION_PATCH);
}

fsr_status fsr_model_open_file(const char* path, const fsr_model_options* options, fsr_model** model) {
  fastsr::AlignedFloats file;
  return open(options, model, [&](const void*& bytes, std::size_t& size) -> fastsr::Status {
    if (!path) return null_pointer("path");
    FASTSR_TRY(read_file(path, file, size));
    bytes = file.data();
    return {};
  });
}

fsr_status fsr_model_open_memory(const void* data, size_t data_size, const fsr_model_options* options,
                                 fsr_model** model) {
  return open(options, model, [&](const void*& bytes, std::size_t& size) -> fastsr::Status {
    if (!data) return null_pointer("bytes");
    bytes = data;
    size = data_size;
    return {};
  });
}

fsr_status fsr_model_get_info(const fsr_model* model, fsr_model_info* info) {
  return guarded(model ? model->log : Log{}, [&]() -> fastsr::Status {
    if (!model) return null_pointer("model");
    const fastsr::ModelFile& file = model->model->file();
    return write_struct({sizeof(fsr_model_info), file.name.c_str(), file.sha256.c_str(), file.card.c_str(),
                         model->kernels->name, model->networks.data(), model->networks.size()},
                        "info", info);
  });
}

void fsr_model_trim(fsr_model* model) {
  if (model) model->model->release();
}

void fsr_model_close(fsr_model* model) {
  if (model) leave(model);
}
