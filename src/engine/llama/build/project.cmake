# llama.cpp's CMake projects → the same, with what stands beside this file in their build: a header before the compiler's own,
# and for the pre-tokeniser regular expressions that need no stack.
#
# CMake includes this after every project() call: .cargo/config.toml names it for cargo, scripts/references for llama.cpp's
# tools, which get the header only. What was used is put aside, and build.rs compares it.

include_guard(GLOBAL)
set(fireside_files "${CMAKE_BINARY_DIR}/fireside")
file(COPY "${CMAKE_CURRENT_LIST_DIR}/" DESTINATION "${fireside_files}")
include_directories(BEFORE SYSTEM "${fireside_files}/include")

if(NOT FIRESIDE_REFERENCE)
    cmake_language(DEFER CALL set_property SOURCE "${CMAKE_SOURCE_DIR}/src/unicode.cpp" DIRECTORY "${CMAKE_SOURCE_DIR}/src"
        APPEND PROPERTY COMPILE_OPTIONS -include pretokenizer_regex.h)
endif()
