// Has ggml ask first whether repacked_products.h computes an operation.
//
// project.cmake has the compiler read this file before traits.cpp.

#pragma once

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(GGML_CPU_GENERIC)

#include "traits.h"

extern "C" bool fireside_multiply_repacked(const ggml_compute_params *, ggml_tensor *);
extern "C" bool fireside_stock_extra_compute_forward(ggml_compute_params *, ggml_tensor *); // llama.cpp's own

extern "C" bool ggml_cpu_extra_compute_forward(ggml_compute_params * params, ggml_tensor * op) {
    return fireside_multiply_repacked(params, op) || fireside_stock_extra_compute_forward(params, op);
}

#define ggml_cpu_extra_compute_forward fireside_stock_extra_compute_forward

#endif
