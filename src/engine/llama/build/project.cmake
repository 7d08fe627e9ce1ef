# llama.cpp's CMake projects → the same, with what stands beside this file in their build: a header before the compiler's own, and
# those that the compiler is to read before some of the sources (fireside_headers), each of which says what it is for.
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

function(fireside_headers)
    foreach (of "src:unicode.cpp:pretokenizer_regex.h" "src:llama-model-loader.cpp:metadata_text.h" "src:llama-mmap.cpp:mapped_pages.h"
                "src:llama-vocab.cpp:vocabulary.h" "ggml/src:gguf.cpp:metadata_reads.h" "ggml/src:ggml-cpu/repack.cpp:parallel_repack.h"
                "ggml/src:ggml-cpu/tiled/tiled.cpp:block_matmul.h" "ggml/src:ggml-cpu/ops.cpp:row_attention.h" "src:llama-kv-cache.cpp:cache_pages.h"
                "ggml/src:ggml-cpu/traits.cpp:repacked_products.h")
        string(REPLACE ":" ";" of "${of}")
        list(POP_FRONT of directory source header)
        set_property(SOURCE "${CMAKE_SOURCE_DIR}/${directory}/${source}" DIRECTORY "${CMAKE_SOURCE_DIR}/${directory}"
            APPEND PROPERTY COMPILE_OPTIONS -include "${header}")
    endforeach ()
endfunction()
cmake_language(DEFER CALL fireside_headers)

# Functions whose place is taken: as long as they stand there.
foreach (of "repack.cpp:ggml_backend_cpu_repack_buffer_set_tensor" "tiled/tiled.cpp:ggml_compute_forward_mul_mat_tiled"
            "ops.cpp:ggml_compute_forward_flash_attn_ext" "ops.cpp:ggml_flash_attn_ext_reduce_partials" "traits.cpp:ggml_cpu_extra_compute_forward")
    string(REPLACE ":" ";" of "${of}")
    list(POP_FRONT of source function)
    file(STRINGS "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/${source}" found REGEX "(void|bool) ${function}\\(")
    if (NOT found)
        message(FATAL_ERROR "a header beside ${CMAKE_CURRENT_LIST_FILE} takes the place of ${function}, which ${source} no longer has")
    endif()
endforeach ()
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
