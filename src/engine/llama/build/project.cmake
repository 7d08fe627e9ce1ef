# llama.cpp's CMake projects → the same, with what stands beside this file in their build: a header before the compiler's own,
# and one each for pre-tokeniser regular expressions that need no stack, for metadata in the log, for how files are mapped, and for
# repacking on several threads.
# Left out is "common", what llama.cpp's own tools share: the binding would have it built, half of all there is to compile, and
# nothing here calls it. Added is the RPC backend, with a transport that opens no socket.
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
cmake_language(DEFER CALL set_property SOURCE "${CMAKE_SOURCE_DIR}/src/llama-mmap.cpp" DIRECTORY "${CMAKE_SOURCE_DIR}/src"
    APPEND PROPERTY COMPILE_OPTIONS -include mapped_pages.h)
cmake_language(DEFER CALL set_property SOURCE "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/repack.cpp" DIRECTORY "${CMAKE_SOURCE_DIR}/ggml/src"
    APPEND PROPERTY COMPILE_OPTIONS -include parallel_repack.h)
file(STRINGS "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/repack.cpp" fireside_found REGEX "void ggml_backend_cpu_repack_buffer_set_tensor\\(")
if (NOT fireside_found)
    message(FATAL_ERROR "parallel_repack.h takes the place of a function that ggml no longer has")
endif()
cmake_language(DEFER CALL set_property TARGET ggml-rpc PROPERTY SOURCES 
    "${CMAKE_SOURCE_DIR}/ggml/src/ggml-rpc/ggml-rpc.cpp;${fireside_files}/rpc/transport.cpp")
cmake_language(DEFER CALL target_include_directories ggml-rpc PRIVATE "${CMAKE_SOURCE_DIR}/ggml/src/ggml-rpc")

# GCC 12 knows no Zen 4. The order of instructions that it chooses for Ice Lake, which has the same ones, is 5 to 13 % faster there
# than those for Zen 3, which "native" means then, and for any processor.
function(fireside_tune)
    if (TARGET ggml-cpu-zen4)
        set_property(TARGET ggml-cpu-zen4 APPEND PROPERTY COMPILE_OPTIONS -mtune=icelake-server)
    elseif (GGML_NATIVE AND TARGET ggml-cpu AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        execute_process(COMMAND "${CMAKE_C_COMPILER}" -march=native -Q --help=target OUTPUT_VARIABLE native ERROR_QUIET)
        if (native MATCHES "-mtune=[ \t]+znver3" AND native MATCHES "-mavx512f[ \t]+\\[enabled\\]")
            set_property(TARGET ggml-cpu APPEND PROPERTY COMPILE_OPTIONS -mtune=icelake-server)
        endif()
    endif()
endfunction()
cmake_language(DEFER CALL fireside_tune)
