# llama.cpp's CMake projects → the same, with what stands beside this file in their build: headers before the compiler's own,
# and a splitter of text that needs no stack.
#
# CMake includes this after every project() call: .cargo/config.toml names it for cargo, scripts/references for llama.cpp's
# tools. What was used is put aside, and build.rs compares it.

include_guard(GLOBAL)
set(fireside_files "${CMAKE_BINARY_DIR}/fireside")
file(COPY "${CMAKE_CURRENT_LIST_DIR}/" DESTINATION "${fireside_files}")
include_directories(BEFORE SYSTEM "${fireside_files}/include")
