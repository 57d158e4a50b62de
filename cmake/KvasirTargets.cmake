# One way to declare a library of each kind, so that the layering is visible in the link lines.

set(KVASIR_WARNINGS -Wall -Wextra -Wno-unused-parameter)
if(KVASIR_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer)
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

# Include paths and flags of code that includes MLIR headers; links the dylibs only.
function(kvasir_uses_mlir name)
  target_include_directories(${name} SYSTEM PUBLIC ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
  target_compile_definitions(${name} PRIVATE ${KVASIR_LLVM_DEFINITIONS})
  target_compile_options(${name} PRIVATE ${KVASIR_WARNINGS} -fno-rtti -fno-exceptions)
  target_link_libraries(${name} PUBLIC MLIR LLVM)
endfunction()

# Adds a folder of the tree when it has a CMakeLists.txt.
function(kvasir_add_subdirectory_if_present folder)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/CMakeLists.txt)
    add_subdirectory(${folder})
  endif()
endfunction()
