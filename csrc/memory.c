/* SPDX-License-Identifier: BSD-3-Clause
 * Scratch memory: a call takes one block and gives it back. The blocks used last are kept, because
 * fresh pages cost more than many a kernel, but never more than KEEP_BYTES of them. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

enum { SLOTS = 8 };
#define KEEP_BYTES ((size_t)64 << 20)

/* In front of each block, one cache line: what the allocation is. */
typedef struct {
    size_t bytes;
} header;
#define HEADER_BYTES 64

/* Blocks from a quarter of a huge page on become whole ones. In pages of 4096 bytes a tile that streams
 * panels from the second-level cache waits for their addresses, and pages scattered in memory leave
 * sets of that cache unused. Sanitizers shall see the exact end of a block. */
#define HUGE_BYTES ((size_t)2 << 20)
#if defined MADV_HUGEPAGE && !defined __SANITIZE_ADDRESS__
#define HUGE_FROM (HUGE_BYTES / 4)
#else
#define HUGE_FROM SIZE_MAX
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static header *kept[SLOTS]; /* in the order in which they were given back, no gaps */
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

static header *remove_kept(int i) {
    header *block = kept[i];
    for (; i + 1 < SLOTS; i++)
        kept[i] = kept[i + 1];
    kept[SLOTS - 1] = NULL;
    kept_bytes -= block->bytes;
    return block;
}

static header *take_kept(size_t bytes) {
    int best = -1;
    for (int i = 0; i < SLOTS && kept[i]; i++)
        if (kept[i]->bytes >= bytes && (best < 0 || kept[i]->bytes < kept[best]->bytes))
            best = i;
    return best < 0 ? NULL : remove_kept(best);
}

static header *allocate(size_t bytes) {
    void *memory;
    size_t total = bytes + HEADER_BYTES, alignment = HEADER_BYTES;
    if (bytes > (size_t)PTRDIFF_MAX - 2 * HUGE_BYTES)
        return NULL;
    if (total >= HUGE_FROM) {
        total = (total + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
        alignment = HUGE_BYTES;
    }
    if (posix_memalign(&memory, alignment, total))
        return NULL;
#ifdef MADV_HUGEPAGE
    if (total >= HUGE_FROM) /* where it is refused, small pages do */
        (void)madvise(memory, total, MADV_HUGEPAGE);
#endif
    header *block = memory;
    block->bytes = total - HEADER_BYTES;
    return block;
}

void *fc_workspace_acquire(size_t bytes) {
    pthread_mutex_lock(&lock);
    header *block = take_kept(bytes);
    pthread_mutex_unlock(&lock);
    if (!block)
        block = allocate(bytes);
    return block ? (char *)block + HEADER_BYTES : NULL;
}

void fc_workspace_release(void *memory) {
    if (!memory)
        return;
    header *block = (header *)((char *)memory - HEADER_BYTES), *drop[SLOTS] = {NULL};
    int dropped = 0, last = 0;
    if (block->bytes > KEEP_BYTES) {
        free(block);
        return;
    }
    pthread_mutex_lock(&lock);
    while (kept[SLOTS - 1] || block->bytes > KEEP_BYTES - kept_bytes)
        drop[dropped++] = remove_kept(0);
    while (kept[last])
        last++;
    kept[last] = block;
    kept_bytes += block->bytes;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < dropped; i++)
        free(drop[i]);
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
