// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The picture of kept tokens.

#include "tools/report/KeptPicture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kvcache::tools {

/// Between white and a dark blue.
static std::string colourOf(double share) {
  auto mix = [share](int full) {
    return static_cast<int>(std::lround(255 + share * (full - 255)));
  };
  return fmt::format("rgb({},{},{})", mix(20), mix(72), mix(140));
}

std::string keptPicture(const rt::CellReport &cell) {
  size_t layers = cell.keptTokens.size(), heads = layers ? cell.keptTokens[0].size() : 0;
  bool hasRoom = heads <= 8 && layers <= 40;
  int width = hasRoom ? 44 : 14, height = hasRoom ? 20 : 8, left = 26, top = 16;
  std::string svg = fmt::format("<svg width=\"{}\" height=\"{}\" role=\"img\">",
                                left + width * heads + 1, top + height * layers + 1);
  for (size_t head = 0; head < heads; ++head) {
    if (hasRoom || head % 8 == 0) {
      svg += fmt::format("<text x=\"{}\" y=\"11\" class=\"axis\" text-anchor=\"middle\">h{}</text>",
                         left + width * head + width / 2, head);
    }
  }
  for (size_t layer = 0; layer < layers; ++layer) {
    int y = top + height * layer;
    if (hasRoom || layer % 8 == 0) {
      svg += fmt::format("<text x=\"{}\" y=\"{}\" class=\"axis\" text-anchor=\"end\">L{}</text>",
                         left - 4, y + height / 2 + 4, layer);
    }
    for (size_t head = 0; head < heads; ++head) {
      double kept = cell.keptTokens[layer][head];
      double share = cell.tokens > 0 ? std::clamp(kept / cell.tokens, 0.0, 1.0) : 0;
      int x = left + width * head;
      svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" "
                         "stroke=\"#c8ccd2\"><title>layer {}, head {}: {:.1f} of {:.1f} "
                         "tokens</title></rect>",
                         x, y, width, height, colourOf(share), layer, head, kept, cell.tokens);
      if (hasRoom) {
        svg += fmt::format("<text x=\"{}\" y=\"{}\" class=\"cell\" fill=\"{}\" "
                           "text-anchor=\"middle\">{:.0f}</text>",
                           x + width / 2, y + height / 2 + 4, share > 0.5 ? "#fff" : "#222", kept);
      }
    }
  }
  return svg + "</svg>";
}

} // namespace kvcache::tools
