// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Texts that the build puts into the binary (EmbedTexts.cmake), so that a report needs no network
// and no installed files.

#pragma once

#include <string_view>

namespace kvcache::tools {

extern const std::string_view pageStyle;   ///< page.css
extern const std::string_view pageScript;  ///< page.js
extern const std::string_view plotLibrary; ///< Chart.js, minified
extern const std::string_view plotLicence; ///< its licence

} // namespace kvcache::tools
