// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Format names to storage terms to the text of a method. The limits of terms (bits, tiles) are the
// verifier's to say.

#include "frontends/FormatMethod.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::kvcache {
namespace {

constexpr unsigned defaultGroup = 32;
constexpr unsigned largestNumber = 1u << 20; ///< keeps every product of sizes in range

llvm::Error unknownFormat(StringRef format) {
  return llvm::createStringError(
      "unknown format '" + format +
      "': expected f32, f16, bf16, or int and 2, 3, 4 or 8 bits, then g or t and the "
      "size of a group: int4, int4g64, int2t32");
}

/// The storage term that `format` stands for.
llvm::Expected<std::string> storageTerm(StringRef format) {
  if (format == "f32" || format == "f16" || format == "bf16") {
    return format.str();
  }
  StringRef rest = format;
  unsigned bits = 0, group = defaultGroup;
  if (!rest.consume_front("int") || rest.consumeInteger(10, bits) ||
      !(bits == 2 || bits == 3 || bits == 4 || bits == 8)) {
    return unknownFormat(format);
  }
  bool ofTokens = rest.consume_front("t");
  if ((ofTokens || rest.consume_front("g")) && rest.consumeInteger(10, group)) {
    return unknownFormat(format);
  }
  if (!rest.empty() || group < 1 || group > largestNumber) {
    return unknownFormat(format);
  }
  StringRef axis = ofTokens ? "token" : "channel";
  std::string term =
      llvm::formatv("affine<{0}, tile({1}:{2}), min_f16, scale_f16, lsb({1})>", bits, axis, group);
  return ofTokens ? llvm::formatv("recent<{0}, keep(0), block({1})>", term, group).str() : term;
}

} // namespace

llvm::Expected<std::string> formatMethodText(StringRef formats, std::string &symbol) {
  auto [keys, values] = formats.split('/');
  llvm::Expected<std::string> k = storageTerm(keys);
  if (!k) {
    return k.takeError();
  }
  llvm::Expected<std::string> v = storageTerm(formats.contains('/') ? values : keys);
  if (!v) {
    return v.takeError();
  }
  symbol = "store_" + llvm::join(llvm::split(formats, '/'), "_");
  return llvm::formatv(R"(!stored = !kvcache.cache<append, head:Hkv, token:?, {{
  k [channel.post:D] = {1},
  v [channel.v:D] = {2},
  pos = i32}>
kvcache.method @{0} info {{family = "quantize", paper = "", title = "{3}"} {{
  kvcache.state @kv : !stored
}
)",
                       symbol, *k, *v, formats)
      .str();
}

} // namespace mlir::kvcache
