#include "graph/loader.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "core/json.hpp"
#include "core/sha256.hpp"

namespace fastsr {
namespace {

constexpr std::size_t kMaxHeader = std::size_t{16} << 20;
constexpr std::size_t kMaxFile = std::size_t{2} << 30;
constexpr std::size_t kMaxTensors = 4096;
constexpr std::size_t kMaxNodes = 4096;
constexpr int kMaxChannels = 8192;
constexpr int kMaxKernel = 31;
constexpr int kMaxScale = 16;
constexpr std::string_view kHashKey = "\"fastsr.sha256\":\"";
constexpr std::size_t kHashDigits = 64;

Status bad_file(std::string message) { return {Code::model_file, std::move(message)}; }
Status damaged(std::string message) { return {Code::model_integrity, std::move(message)}; }

std::string quoted(const std::string& text) { return "'" + text + "'"; }

// Typed access to a JSON object.
Status get_string(const Json& object, std::string_view key, std::string& out) {
  const Json* value = object.find(key);
  if (!value || value->kind != Json::Kind::string) return bad_file(std::string(key) + " is missing or not a string");
  out = value->string;
  return {};
}

Status get_int(const Json& object, std::string_view key, int& out) {
  const Json* value = object.find(key);
  if (!value || value->kind != Json::Kind::number || std::fabs(value->number) > 1e9 ||
      value->number != std::floor(value->number)) {
    return bad_file(std::string(key) + " is missing or not a whole number");
  }
  out = static_cast<int>(value->number);
  return {};
}

Status get_array(const Json& object, std::string_view key, const std::vector<Json>*& out) {
  const Json* value = object.find(key);
  if (!value || value->kind != Json::Kind::array) return bad_file(std::string(key) + " is missing or not a list");
  out = &value->array;
  return {};
}

class GraphReader {
 public:
  GraphReader(const ModelFile& file, const std::unordered_map<std::string, int>& tensors)
      : file_(file), tensors_(tensors) {}

  Status read(const Json& json, Graph& graph) {
    if (json.kind != Json::Kind::object) return bad_file("a graph is not an object");
    FASTSR_TRY(get_int(json, "scale", graph.scale));
    FASTSR_TRY(get_int(json, "channels", graph.channels));
    FASTSR_TRY(get_int(json, "out_channels", graph.out_channels));
    if (graph.channels < 1 || graph.channels > kMaxChannels) return bad_file("wrong number of channels");
    const std::vector<Json>* nodes = nullptr;
    FASTSR_TRY(get_array(json, "nodes", nodes));
    if (nodes->empty() || nodes->size() > kMaxNodes) return bad_file("wrong number of nodes");
    values_["input"] = 0;
    for (const Json& entry : *nodes) {
      Node node;
      FASTSR_TRY(read_node(entry, graph, node));
      graph.nodes.push_back(std::move(node));
      const int value = static_cast<int>(graph.nodes.size());
      if (!values_.emplace(graph.nodes.back().name, value).second) {
        return bad_file("node " + quoted(graph.nodes.back().name) + ": the name is taken");
      }
    }
    std::string output;
    FASTSR_TRY(get_string(json, "output", output));
    const auto found = values_.find(output);
    if (found == values_.end() || found->second == 0) return bad_file("the output is no node of the graph");
    graph.output = found->second;
    if (graph.value_channels(graph.output) != graph.out_channels || graph.value_scale(graph.output) != graph.scale) {
      return bad_file("the output's channels or scale are not what the graph says");
    }
    const Json* ranges = json.find("ranges");
    return ranges ? read_ranges(*ranges, graph) : Status();
  }

 private:
  Status wrong(const Node& node, const std::string& what) const {
    return bad_file("node " + quoted(node.name) + ": " + what);
  }

  Status tensor_index(const Node& node, const std::string& name, int& index) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return wrong(node, "the tensor " + quoted(name) + " does not exist");
    index = found->second;
    return {};
  }

  const std::vector<std::int64_t>& shape(int tensor) const {
    return file_.tensors[static_cast<std::size_t>(tensor)].shape;
  }

  // {value: tensor (2, channels)}
  Status read_ranges(const Json& json, Graph& graph) {
    if (json.kind != Json::Kind::object) return bad_file("the ranges are not an object");
    for (const auto& [name, tensor] : json.object) {
      const auto found = values_.find(name);
      if (found == values_.end() || found->second == 0)
        return bad_file("ranges of " + quoted(name) + ", which is no node");
      Node& node = graph.nodes[static_cast<std::size_t>(found->second - 1)];
      if (tensor.kind != Json::Kind::string) return wrong(node, "its ranges are no tensor's name");
      FASTSR_TRY(tensor_index(node, tensor.string, node.ranges));
      const std::vector<std::int64_t>& s = shape(node.ranges);
      if (s.size() != 2 || s[0] != 2 || s[1] != node.channels) return wrong(node, "its ranges have the wrong shape");
      const float* low = file_.tensor(node.ranges);
      for (int c = 0; c < node.channels; ++c) {
        if (low[c] > low[c + node.channels]) return wrong(node, "a range ends before it begins");
      }
    }
    return {};
  }

  Status read_node(const Json& json, const Graph& graph, Node& node) {
    if (json.kind != Json::Kind::object) return bad_file("a node is not an object");
    std::string op;
    FASTSR_TRY(get_string(json, "op", op));
    FASTSR_TRY(get_string(json, "name", node.name));
    if (node.name.empty() || node.name.size() > 256) return bad_file("a node's name is empty or too long");
    const std::vector<Json>* inputs = nullptr;
    FASTSR_TRY(get_array(json, "inputs", inputs));
    if (inputs->empty()) return wrong(node, "no input");
    for (const Json& input : *inputs) {
      const auto found = input.kind == Json::Kind::string ? values_.find(input.string) : values_.end();
      if (found == values_.end()) return wrong(node, "an input is not computed before it");
      node.inputs.push_back(found->second);
    }
    const int channels = graph.value_channels(node.inputs[0]);
    const int scale = graph.value_scale(node.inputs[0]);
    node.input_channels = channels;
    node.channels = channels;
    node.scale = scale;
    if (op == "conv") {
      node.op = NodeOp::conv;
      FASTSR_TRY(read_conv(json, channels, node));
      FASTSR_TRY(read_steps(json, graph, node));
    } else if (op == "pointwise") {
      node.op = NodeOp::pointwise;
      FASTSR_TRY(read_steps(json, graph, node));
    } else if (op == "concat") {
      node.op = NodeOp::concat;
      node.channels = 0;
      for (int input : node.inputs) {
        if (graph.value_scale(input) != scale) return wrong(node, "joins values of different scales");
        node.channels += graph.value_channels(input);
        if (node.channels > kMaxChannels) break;
      }
    } else if (op == "slice" || op == "pixel_shuffle" || op == "resize") {
      if (node.inputs.size() != 1) return wrong(node, "more than one input");
      FASTSR_TRY(op == "slice" ? read_slice(json, channels, node) : read_enlargement(json, op, channels, node));
    } else {
      return wrong(node, "unknown operation " + quoted(op));
    }
    if (node.channels < 1 || node.channels > kMaxChannels) return wrong(node, "too many channels");
    if (node.scale < 1 || node.scale > kMaxScale) return wrong(node, "scale out of range");
    return {};
  }

  Status read_conv(const Json& json, int channels, Node& node) {
    std::string name;
    FASTSR_TRY(get_string(json, "weight", name));
    FASTSR_TRY(tensor_index(node, name, node.weight));
    FASTSR_TRY(get_int(json, "groups", node.groups));
    const std::vector<std::int64_t>& s = shape(node.weight);
    if (s.size() != 4) return wrong(node, "the weight does not have 4 axes");
    if (s[2] % 2 == 0 || s[3] % 2 == 0 || s[2] > kMaxKernel || s[3] > kMaxKernel) return wrong(node, "kernel size");
    if (node.groups < 1 || node.groups > channels || s[0] < 1 || s[0] > kMaxChannels || s[0] % node.groups != 0 ||
        s[1] * node.groups != channels) {
      return wrong(node, "the weight does not fit the input's channels");
    }
    node.channels = static_cast<int>(s[0]);
    node.kernel_h = static_cast<int>(s[2]);
    node.kernel_w = static_cast<int>(s[3]);
    const Json* bias = json.find("bias");
    if (bias && bias->kind != Json::Kind::null) {
      FASTSR_TRY(get_string(json, "bias", name));
      FASTSR_TRY(tensor_index(node, name, node.bias));
      if (!per_channel(node.bias, node.channels)) return wrong(node, "the bias has the wrong shape");
    }
    return {};
  }

  bool per_channel(int tensor, int channels) const { return shape(tensor).size() == 1 && shape(tensor)[0] == channels; }

  Status read_slice(const Json& json, int channels, Node& node) {
    node.op = NodeOp::slice;
    FASTSR_TRY(get_int(json, "begin", node.begin));
    FASTSR_TRY(get_int(json, "end", node.end));
    if (node.begin < 0 || node.begin >= node.end || node.end > channels) return wrong(node, "channels out of range");
    node.channels = node.end - node.begin;
    return {};
  }

  Status read_enlargement(const Json& json, const std::string& op, int channels, Node& node) {
    FASTSR_TRY(get_int(json, "factor", node.factor));
    if (node.factor < 1 || node.factor > kMaxScale) return wrong(node, "factor out of range");
    node.scale *= node.factor;
    if (op == "pixel_shuffle") {
      node.op = NodeOp::pixel_shuffle;
      if (channels % (node.factor * node.factor) != 0) return wrong(node, "channels are no multiple of factor^2");
      node.channels = channels / (node.factor * node.factor);
      return {};
    }
    node.op = NodeOp::resize;
    std::string mode;
    FASTSR_TRY(get_string(json, "mode", mode));
    if (mode == "nearest") {
      node.mode = ResizeMode::nearest;
    } else if (mode == "bilinear") {
      node.mode = ResizeMode::bilinear;
    } else if (mode == "bicubic") {
      node.mode = ResizeMode::bicubic;
    } else {
      return wrong(node, "unknown resize mode " + quoted(mode));
    }
    const Json* a = json.find("cubic_a");
    if (!a || a->kind != Json::Kind::number) return wrong(node, "cubic_a is missing");
    node.cubic_a = static_cast<float>(a->number);
    return {};
  }

  Status read_steps(const Json& json, const Graph& graph, Node& node) {
    static const std::unordered_map<std::string, StepOp> kOps = {
        {"relu", StepOp::relu},     {"leaky_relu", StepOp::leaky_relu},
        {"prelu", StepOp::prelu},   {"sigmoid", StepOp::sigmoid},
        {"tanh", StepOp::tanh},     {"clip", StepOp::clip},
        {"affine", StepOp::affine}, {"add", StepOp::add},
        {"mul", StepOp::mul}};
    const std::vector<Json>* steps = nullptr;
    FASTSR_TRY(get_array(json, "steps", steps));
    if (steps->size() > 64) return wrong(node, "too many steps");
    for (const Json& entry : *steps) {
      std::string name;
      if (entry.kind != Json::Kind::object) return wrong(node, "a step is not an object");
      FASTSR_TRY(get_string(entry, "op", name));
      const auto found = kOps.find(name);
      if (found == kOps.end()) return wrong(node, "unknown step " + quoted(name));
      Step step;
      step.op = found->second;
      FASTSR_TRY(read_step_values(entry, graph, node, step));
      node.steps.push_back(step);
    }
    return {};
  }

  Status read_step_values(const Json& entry, const Graph& graph, const Node& node, Step& step) {
    const std::size_t params = step.op == StepOp::clip ? 2 : step.op == StepOp::leaky_relu ? 1 : 0;
    const std::size_t tensors = step.op == StepOp::affine ? 2 : step.op == StepOp::prelu ? 1 : 0;
    if (params > 0) {
      const std::vector<Json>* values = nullptr;
      FASTSR_TRY(get_array(entry, "params", values));
      if (values->size() != params) return wrong(node, "a step has the wrong number of numbers");
      for (const Json& value : *values) {
        if (value.kind != Json::Kind::number) return wrong(node, "a step's number is no number");
      }
      step.a = static_cast<float>((*values)[0].number);
      if (params == 2) step.b = static_cast<float>((*values)[1].number);
    }
    if (tensors > 0) {
      const std::vector<Json>* names = nullptr;
      FASTSR_TRY(get_array(entry, "tensors", names));
      if (names->size() != tensors) return wrong(node, "a step has the wrong number of tensors");
      for (std::size_t i = 0; i < tensors; ++i) {
        if ((*names)[i].kind != Json::Kind::string) return wrong(node, "a step's tensor is no name");
        int& index = i == 0 ? step.tensor0 : step.tensor1;
        FASTSR_TRY(tensor_index(node, (*names)[i].string, index));
        if (!per_channel(index, node.channels)) return wrong(node, "a step's tensor has the wrong shape");
      }
    }
    if (step.op == StepOp::add || step.op == StepOp::mul) {
      FASTSR_TRY(get_int(entry, "input", step.input));
      if (step.input < 1 || static_cast<std::size_t>(step.input) >= node.inputs.size()) {
        return wrong(node, "a step reads an input that does not exist");
      }
      const int other = node.inputs[static_cast<std::size_t>(step.input)];
      if (graph.value_channels(other) != node.channels || graph.value_scale(other) != node.scale) {
        return wrong(node, "a step joins values of different shapes");
      }
    }
    return {};
  }

  const ModelFile& file_;
  const std::unordered_map<std::string, int>& tensors_;
  std::unordered_map<std::string, int> values_;
};

struct Container {
  std::string_view header;
  const unsigned char* data = nullptr;
  std::size_t data_size = 0;
  Json json;
  const Json* metadata = nullptr;
};

Status open_container(const unsigned char* bytes, std::size_t size, Container& out) {
  if (size < 8) return damaged("the file has " + std::to_string(size) + " bytes, too few for a .fsr file");
  if (size > kMaxFile) return bad_file("the file is larger than 2 GiB");
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | bytes[i];
  if (header > kMaxHeader) return bad_file("the header says " + std::to_string(header) + " bytes; 16 MiB are possible");
  if (header > size - 8) return damaged("the file is truncated inside its header");
  out.header = {reinterpret_cast<const char*>(bytes) + 8, static_cast<std::size_t>(header)};
  out.data = bytes + 8 + header;
  out.data_size = size - 8 - static_cast<std::size_t>(header);
  Result<Json> json = parse_json(out.header);
  if (!json.ok()) return bad_file("the header is damaged or not a .fsr file's: " + json.status().message());
  out.json = std::move(json.value());
  out.metadata = out.json.find("__metadata__");
  if (!out.metadata || out.metadata->kind != Json::Kind::object) return bad_file("no metadata: not a .fsr file");
  return {};
}

Status check_version(const Container& c) {
  std::string version;
  FASTSR_TRY(get_string(*c.metadata, "fastsr.format", version));
  if (version == std::to_string(kFormatVersion)) return {};
  return {Code::model_version, "the file has format version " + quoted(version) + "; this FastSR reads version " +
                                   std::to_string(kFormatVersion)};
}

Status check_hash(const unsigned char* bytes, std::size_t size, const Container& c, bool hashed, std::string& hash) {
  FASTSR_TRY(get_string(*c.metadata, "fastsr.sha256", hash));
  const std::size_t key = c.header.find(kHashKey);
  if (key == std::string_view::npos || hash.size() != kHashDigits) return bad_file("the hash is missing");
  const std::size_t at = 8 + key + kHashKey.size();
  if (at + kHashDigits > size) return damaged("the file is truncated inside its header");
  if (hashed) return {};
  const std::string zeros(kHashDigits, '0');
  Sha256 sha;
  sha.update(bytes, at);
  sha.update(zeros.data(), zeros.size());
  sha.update(bytes + at + kHashDigits, size - at - kHashDigits);
  const std::string actual = sha.hex();
  if (actual != hash) return damaged("the file is damaged: its hash is " + actual + ", it says " + hash);
  return {};
}

struct Offsets {
  std::size_t begin = 0;
  std::size_t end = 0;
};

Status read_tensor(const std::string& name, const Json& json, std::size_t data_size, Tensor& tensor, Offsets& offsets) {
  tensor.name = name;
  std::string type;
  if (json.kind != Json::Kind::object) return bad_file("tensor " + quoted(name) + " is not described");
  FASTSR_TRY(get_string(json, "dtype", type));
  if (type != "F32") return bad_file("tensor " + quoted(name) + " is " + type + "; F32 is possible");
  const std::vector<Json>* shape = nullptr;
  const std::vector<Json>* range = nullptr;
  FASTSR_TRY(get_array(json, "shape", shape));
  FASTSR_TRY(get_array(json, "data_offsets", range));
  double count = 1;
  for (const Json& axis : *shape) {
    if (axis.kind != Json::Kind::number || axis.number < 1 || axis.number > 1e9 ||
        axis.number != std::floor(axis.number)) {
      return bad_file("tensor " + quoted(name) + " has a wrong shape");
    }
    tensor.shape.push_back(static_cast<std::int64_t>(axis.number));
    count *= axis.number;
  }
  if (shape->size() > 8 || range->size() != 2) return bad_file("tensor " + quoted(name) + " has a wrong shape");
  for (const Json& end : *range) {
    if (end.kind != Json::Kind::number || end.number < 0 || end.number > static_cast<double>(data_size) ||
        end.number != std::floor(end.number)) {
      return damaged("tensor " + quoted(name) + " lies outside the file");
    }
  }
  offsets.begin = static_cast<std::size_t>((*range)[0].number);
  offsets.end = static_cast<std::size_t>((*range)[1].number);
  if (offsets.end < offsets.begin || static_cast<double>(offsets.end - offsets.begin) != count * 4) {
    return bad_file("tensor " + quoted(name) + ": size and shape contradict each other");
  }
  tensor.offset = offsets.begin / sizeof(float);
  return {};
}

Status read_tensors(const Container& c, ModelFile& file, std::unordered_map<std::string, int>& index) {
  std::vector<Offsets> all;
  for (const auto& [name, json] : c.json.object) {
    if (name == "__metadata__") continue;
    Tensor tensor;
    Offsets offsets;
    FASTSR_TRY(read_tensor(name, json, c.data_size, tensor, offsets));
    if (offsets.begin % sizeof(float) != 0) return bad_file("tensor " + quoted(name) + " is not aligned");
    index[name] = static_cast<int>(file.tensors.size());
    file.tensors.push_back(std::move(tensor));
    all.push_back(offsets);
    if (all.size() > kMaxTensors) return bad_file("too many tensors");
  }
  std::sort(all.begin(), all.end(), [](const Offsets& a, const Offsets& b) { return a.begin < b.begin; });
  std::size_t at = 0;
  for (const Offsets& o : all) {
    if (o.begin != at) return bad_file("tensors overlap or leave holes");
    at = o.end;
  }
  if (at != c.data_size)
    return damaged("the file has " + std::to_string(c.data_size) + " bytes of weights, its header says " +
                   std::to_string(at));
  if (!file.data.allocate(c.data_size / sizeof(float))) return {Code::out_of_memory, "no memory for the weights"};
  if (c.data_size > 0) std::memcpy(file.data.data(), c.data, c.data_size);
  for (std::size_t i = 0; i < file.data.size(); ++i) {
    if (!std::isfinite(file.data.data()[i])) return bad_file("a weight is NaN or infinite");
  }
  return {};
}

}  // namespace

Result<ModelFile> load_model(const void* data, std::size_t size, bool hashed) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  Container container;
  ModelFile file;
  FASTSR_TRY(open_container(bytes, size, container));
  FASTSR_TRY(check_version(container));
  FASTSR_TRY(check_hash(bytes, size, container, hashed, file.sha256));
  std::unordered_map<std::string, int> tensors;
  FASTSR_TRY(read_tensors(container, file, tensors));
  FASTSR_TRY(get_string(*container.metadata, "fastsr.card", file.card));
  std::string text;
  FASTSR_TRY(get_string(*container.metadata, "fastsr.model", text));
  Result<Json> model = parse_json(text);
  if (!model.ok()) return model.status();
  if (model.value().kind != Json::Kind::object) return bad_file("the model is not an object");
  FASTSR_TRY(get_string(model.value(), "name", file.name));
  const std::vector<Json>* graphs = nullptr;
  FASTSR_TRY(get_array(model.value(), "graphs", graphs));
  if (graphs->empty() || graphs->size() > 64) return bad_file("a model has 1 to 64 graphs");
  for (const Json& json : *graphs) {
    Graph graph;
    FASTSR_TRY(GraphReader(file, tensors).read(json, graph));
    file.graphs.push_back(std::move(graph));
  }
  return Result<ModelFile>(std::move(file));
}

}  // namespace fastsr
