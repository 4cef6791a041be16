/* SPDX-License-Identifier: BSD-3-Clause
 * The thread pool: every task runs once, also when calls are nested, come from several threads at
 * once, follow a fork or meet a change of the thread count. ThreadSanitizer watches this file. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TASKS = 1000, CALLERS = 8, ROUNDS = 50 };

typedef struct {
    atomic_int runs[TASKS];
    atomic_int slots[8];
    int threads, nested;
} tally;

static void count_task(void *context, ptrdiff_t task, int slot) {
    tally *tasks = context;
    atomic_fetch_add(&tasks->runs[task], 1);
    if (slot >= tasks->threads)
        atomic_fetch_add(&tasks->slots[7], 1);
    if (tasks->nested && task % 100 == 0) {
        tally *inner = calloc(1, sizeof *inner);
        inner->threads = 3;
        fc_parallel_for(3, TASKS, count_task, inner);
        for (int i = 0; i < TASKS; i++)
            if (inner->runs[i] != 1)
                atomic_fetch_add(&tasks->slots[7], 1);
        free(inner);
    }
}

static int runs_once(int threads, int nested) {
    tally *tasks = calloc(1, sizeof *tasks);
    tasks->threads = threads;
    tasks->nested = nested;
    fc_parallel_for(threads, TASKS, count_task, tasks);
    int good = tasks->slots[7] == 0;
    for (int i = 0; i < TASKS; i++)
        good = good && tasks->runs[i] == 1;
    free(tasks);
    return good;
}

/* Two tasks must not share a slot's memory at the same time. */
typedef struct {
    long counters[4][16]; /* not atomic: ThreadSanitizer would see two tasks in one slot */
} slot_memory;

static void slot_task(void *context, ptrdiff_t task, int slot) {
    (void)task;
    ((slot_memory *)context)->counters[slot][0]++;
}

static void *caller(void *result) {
    int good = 1;
    for (int round = 0; round < ROUNDS; round++) {
        good = good && runs_once(2 + round % 3, round % 10 == 0);
        void *memory = fc_workspace_acquire((size_t)1000 << round % 5);
        memset(memory, round, 1000);
        fc_workspace_release(memory);
        if (round % 20 == 0)
            fc_release_memory();
        fc_set_num_threads(1 + round % 4);
    }
    *(int *)result = good;
    return NULL;
}

static void check_concurrent_calls(void) {
    pthread_t threads[CALLERS];
    int good[CALLERS] = {0};
    for (int i = 0; i < CALLERS; i++)
        pthread_create(&threads[i], NULL, caller, &good[i]);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        expect(good[i], "a task ran not once when %d threads called at the same time", CALLERS);
    }
}

/* The child's pool starts anew; it answers through its exit status. */
void check_fork(void) {
    const pid_t child = fork();
    if (child == 0)
        _exit(runs_once(4, 0) && runs_once(4, 1) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the pool fails after fork: status %d",
           status);
    expect(runs_once(4, 0), "the pool fails in the parent after fork");
}

static void sleep_task(void *context, ptrdiff_t task, int slot) {
    (void)task;
    atomic_fetch_add(&((tally *)context)->slots[slot], 1);
    usleep(1000);
}

/* Tasks that take a while are shared out; a worker has 0.2 s to wake up. */
static void check_sharing(void) {
    tally *tasks = calloc(1, sizeof *tasks);
    fc_parallel_for(4, 200, sleep_task, tasks);
    int used = 0, sum = 0;
    for (int i = 0; i < 8; i++) {
        used += tasks->slots[i] > 0;
        sum += tasks->slots[i];
    }
    expect(used > 1 && used <= 4 && sum == 200, "%d threads ran %d of 200 tasks", used, sum);
    free(tasks);
}

void check_threads(void) {
    check_sharing();
    for (int threads = 1; threads <= 6; threads++)
        for (int nested = 0; nested < 2; nested++)
            expect(runs_once(threads, nested), "a task ran not once with %d threads", threads);
    slot_memory slots = {0};
    fc_parallel_for(4, 100 * TASKS, slot_task, &slots);
    long sum = 0;
    for (int i = 0; i < 4; i++)
        sum += slots.counters[i][0];
    expect(sum == 100 * TASKS, "slots are shared: %ld tasks counted", sum);
    check_concurrent_calls();
    fc_set_num_threads(0);
    expect(fc_get_num_threads() == fc_default_threads(), "0 threads is not the default");
}
