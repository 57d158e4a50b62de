# Everything the project builds on. docs/dependencies.md says why each was chosen.
find_package(MLIR 22.1 CONFIG REQUIRED HINTS /usr/lib/llvm-22/lib/cmake/mlir)
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)
find_package(Threads REQUIRED)
find_package(TBB REQUIRED CONFIG)
find_package(Protobuf REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(LLD 22.1 CONFIG REQUIRED HINTS /usr/lib/llvm-22/lib/cmake/lld)
find_library(KVASIR_BLAS NAMES openblas PATHS /usr/lib/x86_64-linux-gnu/openblas-serial REQUIRED NO_DEFAULT_PATH)
find_library(KVASIR_LAPACK NAMES lapack openblas PATHS /usr/lib/x86_64-linux-gnu/openblas-serial REQUIRED NO_DEFAULT_PATH)
find_path(KVASIR_CBLAS_INCLUDE cblas.h PATHS /usr/include/x86_64-linux-gnu/openblas-serial REQUIRED NO_DEFAULT_PATH)
find_library(KVASIR_XXHASH NAMES xxhash REQUIRED)
find_library(KVASIR_ZSTD NAMES zstd REQUIRED)

# The tests' interpreter: Debian's python3, because numpy and jsonschema come from Debian packages.
find_program(KVASIR_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(KVASIR_PYTHON python3 REQUIRED)

find_program(KVASIR_CCACHE ccache)
if(KVASIR_CCACHE)
  # ccache stores compilations with precompiled headers only with these two relaxations.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${KVASIR_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${KVASIR_CCACHE})
endif()

# LLVM's linker, when it is there, links the drivers in a fraction of the time.
find_program(KVASIR_LLD ld.lld HINTS ${LLVM_TOOLS_BINARY_DIR})
if(KVASIR_LLD)
  get_filename_component(lld_folder ${KVASIR_LLD} DIRECTORY)
  add_link_options(-fuse-ld=lld -B${lld_folder})
endif()

# libMLIR and libLLVM are built without RTTI and exceptions; code that includes their headers must match.
separate_arguments(KVASIR_LLVM_DEFINITIONS NATIVE_COMMAND "${LLVM_DEFINITIONS}")
