#include "core/json.hpp"

#include <charconv>
#include <cmath>
#include <unordered_set>

namespace fastsr {
namespace {

constexpr int kMaxDepth = 32;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Json> parse() {
    Json value;
    if (!read_value(value, 0)) return error();
    skip_space();
    if (at_ != text_.size()) {
      problem_ = "text after the end";
      return error();
    }
    return value;
  }

 private:
  Status error() const {
    return {Code::model_file, std::string("JSON: ") + problem_ + " at byte " + std::to_string(at_)};
  }

  bool fail(const char* problem) {
    problem_ = problem;
    return false;
  }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  bool read_value(Json& value, int depth) {
    if (depth > kMaxDepth) return fail("nested too deeply");
    skip_space();
    if (at_ >= text_.size()) return fail("unexpected end");
    switch (text_[at_]) {
      case '{': return read_object(value, depth);
      case '[': return read_array(value, depth);
      case '"': value.kind = Json::Kind::string; return read_string(value.string);
      case 't':
        value.kind = Json::Kind::boolean;
        value.boolean = true;
        return take("true") || fail("unknown word");
      case 'f': value.kind = Json::Kind::boolean; return take("false") || fail("unknown word");
      case 'n': return take("null") || fail("unknown word");
      default: return read_number(value);
    }
  }

  bool read_object(Json& value, int depth) {
    value.kind = Json::Kind::object;
    std::unordered_set<std::string> keys;
    ++at_;
    skip_space();
    if (take("}")) return true;
    for (;;) {
      skip_space();
      std::string key;
      if (at_ >= text_.size() || text_[at_] != '"') return fail("a key is missing");
      if (!read_string(key)) return false;
      if (!keys.insert(key).second) return fail("a key occurs twice");
      skip_space();
      if (!take(":")) return fail("':' is missing");
      value.object.emplace_back(std::move(key), Json{});
      if (!read_value(value.object.back().second, depth + 1)) return false;
      skip_space();
      if (take("}")) return true;
      if (!take(",")) return fail("',' or '}' is missing");
    }
  }

  bool read_array(Json& value, int depth) {
    value.kind = Json::Kind::array;
    ++at_;
    skip_space();
    if (take("]")) return true;
    for (;;) {
      value.array.emplace_back();
      if (!read_value(value.array.back(), depth + 1)) return false;
      skip_space();
      if (take("]")) return true;
      if (!take(",")) return fail("',' or ']' is missing");
    }
  }

  bool read_number(Json& value) {
    value.kind = Json::Kind::number;
    const char* begin = text_.data() + at_;
    if (*begin != '-' && (*begin < '0' || *begin > '9')) return fail("unknown word");
    const auto [end, status] = std::from_chars(begin, text_.data() + text_.size(), value.number);
    if (status != std::errc() || !std::isfinite(value.number)) return fail("not a number");
    at_ += static_cast<std::size_t>(end - begin);
    return true;
  }

  bool read_hex4(unsigned& code) {
    if (at_ + 4 > text_.size()) return fail("unexpected end");
    const auto [end, status] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
    if (status != std::errc() || end != text_.data() + at_ + 4) return fail("wrong \\u escape");
    at_ += 4;
    return true;
  }

  static void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 63));
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 63));
      out += static_cast<char>(0x80 | (code & 63));
    } else {
      out += static_cast<char>(0xF0 | code >> 18);
      out += static_cast<char>(0x80 | (code >> 12 & 63));
      out += static_cast<char>(0x80 | (code >> 6 & 63));
      out += static_cast<char>(0x80 | (code & 63));
    }
  }

  bool read_escape(std::string& out) {
    if (at_ >= text_.size()) return fail("unexpected end");
    switch (text_[at_++]) {
      case '"': out += '"'; return true;
      case '\\': out += '\\'; return true;
      case '/': out += '/'; return true;
      case 'b': out += '\b'; return true;
      case 'f': out += '\f'; return true;
      case 'n': out += '\n'; return true;
      case 'r': out += '\r'; return true;
      case 't': out += '\t'; return true;
      case 'u': break;
      default: return fail("unknown escape");
    }
    unsigned code = 0;
    if (!read_hex4(code)) return false;
    if (code >= 0xDC00 && code < 0xE000) return fail("half a surrogate pair");
    if (code >= 0xD800 && code < 0xDC00) {
      unsigned low = 0;
      if (!take("\\u")) return fail("half a surrogate pair");
      if (!read_hex4(low)) return false;
      if (low < 0xDC00 || low >= 0xE000) return fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(out, code);
    return true;
  }

  bool read_string(std::string& out) {
    ++at_;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return fail("a control character in a string");
      if (c != '\\') {
        out += c;
      } else if (!read_escape(out)) {
        return false;
      }
    }
    return fail("a string without end");
  }

  std::string_view text_;
  std::size_t at_ = 0;
  const char* problem_ = "";
};

}  // namespace

const Json* Json::find(std::string_view key) const {
  for (const auto& [name, value] : object) {
    if (name == key) return &value;
  }
  return nullptr;
}

Result<Json> parse_json(std::string_view text) { return Parser(text).parse(); }

}  // namespace fastsr
