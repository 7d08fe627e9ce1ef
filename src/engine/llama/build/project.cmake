# llama.cpp's CMake projects → the same, with what stands beside this file in their build: a header before the compiler's own,
# one for pre-tokeniser regular expressions that need no stack, and one for metadata in the log. Left out is "common", what
# llama.cpp's own tools share: the binding would have it built, half of all there is to compile, and nothing here calls it.
# Added is the RPC backend, with a transport that opens no socket.
#
# CMake includes this after every project() call: .cargo/config.toml names it. What was used is put aside, and build.rs compares it.

include_guard(GLOBAL)
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
set(GGML_RPC ON CACHE BOOL "" FORCE)
set(GGML_RPC_RDMA OFF CACHE BOOL "" FORCE)
set(fireside_files "${CMAKE_BINARY_DIR}/fireside")
file(COPY "${CMAKE_CURRENT_LIST_DIR}/" DESTINATION "${fireside_files}")
include_directories(BEFORE SYSTEM "${fireside_files}/include")
cmake_language(DEFER CALL set_property SOURCE "${CMAKE_SOURCE_DIR}/src/unicode.cpp" DIRECTORY "${CMAKE_SOURCE_DIR}/src"
    APPEND PROPERTY COMPILE_OPTIONS -include pretokenizer_regex.h)
cmake_language(DEFER CALL set_property SOURCE "${CMAKE_SOURCE_DIR}/src/llama-model-loader.cpp" DIRECTORY "${CMAKE_SOURCE_DIR}/src"
    APPEND PROPERTY COMPILE_OPTIONS -include metadata_text.h)
cmake_language(DEFER CALL set_property TARGET ggml-rpc PROPERTY SOURCES 
    "${CMAKE_SOURCE_DIR}/ggml/src/ggml-rpc/ggml-rpc.cpp;${fireside_files}/rpc/transport.cpp")
cmake_language(DEFER CALL target_include_directories ggml-rpc PRIVATE "${CMAKE_SOURCE_DIR}/ggml/src/ggml-rpc")
