# One way to declare a library of each kind, so that the layering is visible in the link lines.

set(KVASIR_WARNINGS -Wall -Wextra -Wno-unused-parameter)
# -fpch-preprocess: without it ccache cannot store what was compiled with precompiled headers.
set(KVASIR_MLIR_OPTIONS -fno-rtti -fno-exceptions -fpch-preprocess)
if(KVASIR_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=vptr -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

# kvasir_runtime_library(NAME sources... [LINK libs...]): plain C++17, no MLIR, no LLVM.
function(kvasir_runtime_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_compile_options(${name} PRIVATE ${KVASIR_WARNINGS})
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
endfunction()

# kvasir_mlir_library(NAME sources... [LINK libs...] [DEPENDS targets...]): may include MLIR headers.
function(kvasir_mlir_library name)
  cmake_parse_arguments(ARG "" "" "LINK;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  kvasir_uses_mlir(${name})
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
endfunction()

# MLIR's own headers, parsed once: 15 s here save 3 s in each of the translation units of the MLIR libraries. Headers
# of this project stay out, or an edit of one would rebuild everything.
add_library(kvasir_mlir_headers OBJECT ${CMAKE_SOURCE_DIR}/cmake/MlirHeaders.cpp)
target_include_directories(kvasir_mlir_headers SYSTEM PRIVATE ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
target_compile_definitions(kvasir_mlir_headers PRIVATE ${KVASIR_LLVM_DEFINITIONS})
target_compile_options(kvasir_mlir_headers PRIVATE ${KVASIR_WARNINGS} ${KVASIR_MLIR_OPTIONS})
target_precompile_headers(kvasir_mlir_headers PRIVATE
  <mlir/Dialect/Arith/IR/Arith.h>
  <mlir/Dialect/Func/IR/FuncOps.h>
  <mlir/Dialect/MemRef/IR/MemRef.h>
  <mlir/Dialect/SCF/IR/SCF.h>
  <mlir/Dialect/Vector/IR/VectorOps.h>
  <mlir/IR/Builders.h>
  <mlir/IR/BuiltinOps.h>
  <mlir/IR/BuiltinTypes.h>
  <mlir/IR/Dialect.h>
  <mlir/IR/DialectImplementation.h>
  <mlir/IR/OpImplementation.h>
  <mlir/IR/PatternMatch.h>
  <mlir/Pass/Pass.h>
  <mlir/Transforms/DialectConversion.h>)

# Include paths and flags of code that includes MLIR headers; links the dylibs only.
function(kvasir_uses_mlir name)
  target_include_directories(${name} SYSTEM PUBLIC ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
  target_compile_definitions(${name} PRIVATE ${KVASIR_LLVM_DEFINITIONS})
  target_compile_options(${name} PRIVATE ${KVASIR_WARNINGS} ${KVASIR_MLIR_OPTIONS})
  target_link_libraries(${name} PUBLIC MLIR LLVM)
  get_target_property(type ${name} TYPE)
  if(NOT type STREQUAL "EXECUTABLE") # an executable is compiled with -fPIE, which does not fit
    target_precompile_headers(${name} REUSE_FROM kvasir_mlir_headers)
  endif()
endfunction()

# Adds a folder of the tree when it has a CMakeLists.txt.
function(kvasir_add_subdirectory_if_present folder)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/CMakeLists.txt)
    add_subdirectory(${folder})
  endif()
endfunction()
