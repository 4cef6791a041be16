/* SPDX-License-Identifier: BSD-3-Clause
 * Scratch memory: a call takes one block and gives it back. A few blocks are kept, because fresh
 * pages cost more than many a kernel, but never more than KEEP_BYTES of them. */
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

enum { SLOTS = 8 };
#define KEEP_BYTES ((size_t)64 << 20)

/* In front of each block, one cache line: what the allocation is. */
typedef struct {
    size_t bytes;
} header;
#define HEADER_BYTES 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static header *kept[SLOTS];
static size_t kept_bytes;

static void lock_for_fork(void) {
    pthread_mutex_lock(&lock);
}

static void unlock_after_fork(void) {
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void register_fork(void) {
    pthread_atfork(lock_for_fork, unlock_after_fork, unlock_after_fork);
}

static header *take_kept(size_t bytes) {
    int best = -1;
    for (int i = 0; i < SLOTS; i++)
        if (kept[i] && kept[i]->bytes >= bytes && (best < 0 || kept[i]->bytes < kept[best]->bytes))
            best = i;
    if (best < 0)
        return NULL;
    header *block = kept[best];
    kept[best] = NULL;
    kept_bytes -= block->bytes;
    return block;
}

void *fc_workspace_acquire(size_t bytes) {
    pthread_mutex_lock(&lock);
    header *block = take_kept(bytes);
    pthread_mutex_unlock(&lock);
    if (!block) {
        void *memory;
        if (bytes > (size_t)PTRDIFF_MAX - 2 * HEADER_BYTES ||
            posix_memalign(&memory, HEADER_BYTES, bytes + HEADER_BYTES))
            return NULL;
        block = memory;
        block->bytes = bytes;
    }
    return (char *)block + HEADER_BYTES;
}

void fc_workspace_release(void *memory) {
    if (!memory)
        return;
    header *block = (header *)((char *)memory - HEADER_BYTES);
    pthread_mutex_lock(&lock);
    if (block->bytes <= KEEP_BYTES - kept_bytes) {
        for (int i = 0; i < SLOTS && block; i++)
            if (!kept[i]) {
                kept[i] = block;
                kept_bytes += block->bytes;
                block = NULL;
            }
    }
    if (block) { /* full: the newest block is the likeliest to be wanted again */
        for (int i = 0; i < SLOTS; i++)
            if (kept[i] && kept[i]->bytes < block->bytes &&
                block->bytes <= KEEP_BYTES - kept_bytes + kept[i]->bytes) {
                header *old = kept[i];
                kept_bytes += block->bytes - old->bytes;
                kept[i] = block;
                block = old;
                break;
            }
    }
    pthread_mutex_unlock(&lock);
    free(block);
}

void fc_release_memory(void) {
    header *drop[SLOTS];
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SLOTS; i++) {
        drop[i] = kept[i];
        kept[i] = NULL;
    }
    kept_bytes = 0;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < SLOTS; i++)
        free(drop[i]);
}

size_t fc_cached_memory(void) {
    pthread_mutex_lock(&lock);
    const size_t bytes = kept_bytes;
    pthread_mutex_unlock(&lock);
    return bytes;
}
