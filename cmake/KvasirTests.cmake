# How a test binary is declared. Lit runs every binary of build/test/unit case by case; ctest runs it whole.

find_package(GTest REQUIRED)

# kvasir_unit_test(NAME sources... [LINK libs...] [MLIR]): a GoogleTest binary, main function included.
# MLIR: the sources include MLIR headers.
function(kvasir_unit_test name)
  cmake_parse_arguments(ARG "MLIR" "" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  set_target_properties(${name} PROPERTIES
    SUFFIX ".unittest" RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test/unit)
  if(ARG_MLIR)
    kvasir_uses_mlir(${name})
  else()
    target_compile_options(${name} PRIVATE ${KVASIR_WARNINGS})
  endif()
  target_compile_definitions(${name} PRIVATE KVASIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gtest_main)
  add_test(NAME unit-${name} COMMAND ${name})
  set_property(GLOBAL APPEND PROPERTY KVASIR_UNIT_TESTS ${name})
endfunction()
