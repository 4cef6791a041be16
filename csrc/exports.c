/* SPDX-License-Identifier: BSD-3-Clause
 * The C symbols that the extension module exports beside its initialiser: threadpoolctl finds and
 * steers the pool of a loaded library through them. */
#include "fastconv.h"

#define FC_EXPORT __attribute__((visibility("default")))

FC_EXPORT int fastconv_get_num_threads(void);
FC_EXPORT void fastconv_set_num_threads(int threads);
FC_EXPORT const char *fastconv_get_version(void);

int fastconv_get_num_threads(void) {
    return fc_get_num_threads();
}

void fastconv_set_num_threads(int threads) {
    fc_set_num_threads(threads);
}

const char *fastconv_get_version(void) {
    return FC_VERSION;
}
