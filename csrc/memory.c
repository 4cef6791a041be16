/* SPDX-License-Identifier: BSD-3-Clause
 * Memory that is used again, because fresh pages cost more than many a kernel. A call takes one block
 * of scratch memory and gives it back; a large result is a block that comes back when its array dies.
 * The blocks given back last are kept, but never more than KEEP_BYTES and as much again as the results
 * alive take: a step of training lets go of about as many bytes of gradients as its layers hold of
 * outputs, and wants them again in the next one. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

enum { SLOTS = 64 };
#define KEEP_BYTES ((size_t)64 << 20)

/* Scratch memory from a quarter of a huge page on comes in whole ones. In pages of 4096 bytes a tile that
 * streams panels from the second-level cache waits for their addresses, and pages scattered in memory
 * leave sets of that cache unused. Results, which may live long, start at a huge page where they fill
 * some. Sanitizers shall see the exact end of a block. */
#define HUGE_PAGE ((size_t)2 << 20)
#define SLOT_STEP (2 * HUGE_PAGE) /* what a thread takes is mostly 1 to 4 MB */
#if defined MADV_HUGEPAGE && !defined __SANITIZE_ADDRESS__
#define SCRATCH_HUGE_FROM (HUGE_PAGE / 4)
#define RESULT_HUGE_FROM (2 * HUGE_PAGE)
#else
#define SCRATCH_HUGE_FROM SIZE_MAX
#define RESULT_HUGE_FROM SIZE_MAX
#endif

/* In front of each block, one cache line: what the allocation is. */
typedef struct {
    size_t bytes;
    int scratch; /* not for results: what a call wrote there is in the caches for the next one */
} header;
#define HEADER_BYTES 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static header *kept[SLOTS]; /* in the order in which they were given back, no gaps */
static size_t kept_bytes, result_bytes;

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

/* For results the smallest that will do; of several, and for scratch memory whatever its size, the one given
 * back last: it may still be in the caches. */
static header *take_kept(size_t bytes, size_t most, int scratch) {
    int best = -1;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SLOTS && kept[i]; i++)
        if (kept[i]->bytes >= bytes && kept[i]->bytes <= most && kept[i]->scratch == scratch &&
            (best < 0 || scratch || kept[i]->bytes <= kept[best]->bytes))
            best = i;
    header *block = best < 0 ? NULL : remove_kept(best);
    pthread_mutex_unlock(&lock);
    return block;
}

static header *try_block(size_t bytes, int scratch) {
    const int huge = bytes >= (scratch ? SCRATCH_HUGE_FROM : RESULT_HUGE_FROM);
    void *memory;
    if (bytes > (size_t)PTRDIFF_MAX - 2 * HUGE_PAGE ||
        posix_memalign(&memory, huge ? HUGE_PAGE : HEADER_BYTES, bytes + HEADER_BYTES))
        return NULL;
#ifdef MADV_HUGEPAGE
    if (huge) /* where it is refused, small pages do */
        (void)madvise(memory, bytes + HEADER_BYTES, MADV_HUGEPAGE);
#endif
    header *block = memory;
    block->bytes = bytes;
    block->scratch = scratch;
    return block;
}

/* What is kept goes first, before a call fails. */
static header *new_block(size_t bytes, int scratch) {
    header *block = try_block(bytes, scratch);
    if (block)
        return block;
    fc_release_memory();
    return try_block(bytes, scratch);
}

static void *contents(header *block) {
    return block ? (char *)block + HEADER_BYTES : NULL;
}

static header *block_of(void *memory) {
    return (header *)((char *)memory - HEADER_BYTES);
}

/* Keeps the block or frees it, and frees the oldest ones that are too many now. */
static void give_back(header *block, size_t result) {
    header *drop[SLOTS + 1];
    int dropped = 0, last = 0;
    pthread_mutex_lock(&lock);
    result_bytes -= result;
    const size_t most = KEEP_BYTES + result_bytes;
    const int keep = block->bytes <= most;
    if (!keep)
        drop[dropped++] = block;
    while (kept_bytes > (keep ? most - block->bytes : most) || (keep && kept[SLOTS - 1]))
        drop[dropped++] = remove_kept(0);
    if (keep) {
        while (kept[last])
            last++;
        kept[last] = block;
        kept_bytes += block->bytes;
    }
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < dropped; i++)
        free(drop[i]);
}

void *fc_workspace_acquire(size_t bytes) {
    header *block = take_kept(bytes, SIZE_MAX, 1);
    if (!block && bytes >= SCRATCH_HUGE_FROM && bytes < (size_t)PTRDIFF_MAX / 2)
        bytes = (bytes + HEADER_BYTES + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE - HEADER_BYTES;
    return contents(block ? block : new_block(bytes, 1));
}

size_t fc_slot_step(size_t bytes) {
    return bytes < SCRATCH_HUGE_FROM ? bytes : (bytes + SLOT_STEP - 1) / SLOT_STEP * SLOT_STEP;
}

void fc_workspace_release(void *memory) {
    if (memory)
        give_back(block_of(memory), 0);
}

/* A result may live long: little of its block may lie idle. */
void *fc_result_acquire(size_t bytes) {
    header *block = take_kept(bytes, bytes + bytes / 8, 0);
    if (!block && !(block = new_block(bytes, 0)))
        return NULL;
    pthread_mutex_lock(&lock);
    result_bytes += block->bytes;
    pthread_mutex_unlock(&lock);
    return contents(block);
}

void fc_result_release(void *memory) {
    if (memory)
        give_back(block_of(memory), block_of(memory)->bytes);
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
