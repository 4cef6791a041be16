/* SPDX-License-Identifier: BSD-3-Clause
 * The thread pool. Workers start at the first parallel call, watch for work for IDLE_SPIN_NS after the
 * end of a job and then sleep, so an idle pool uses no processor time.
 *
 * One job at a time. The caller publishes it, works on it itself at once, and waits at the end only
 * for the workers that joined: a worker that wakes late finds the job closed. Each thread has a run
 * of tasks of its own, the same in every call of that many tasks, so that what it wrote in one call
 * is in its cache for the next one; then it helps the others with theirs. A call from inside a job,
 * or while another thread's job runs, does its tasks alone. After fork the child has no workers; its
 * pool starts anew. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* A futex wake-up costs 5-50 us on virtual machines. Between two calls whose arrays fill the second-level
 * cache pass some 40 us: the interpreter has to be fetched again. */
#define IDLE_SPIN_NS 50000  /* for the next job */
#define JOB_SPIN_NS 1000000 /* for the others at work on this job, who delay nobody else by it */
#define MAX_THREADS 256
#define CACHE_LINE 64

/* The thread that opened a job and the processor it ran on. */
typedef struct {
    pid_t id;
    int cpu;
} caller;

/* Tasks of a thread that are left, on a cache line of their own. */
typedef struct {
    _Alignas(CACHE_LINE) atomic_ptrdiff_t next;
    ptrdiff_t end;
} run;

typedef struct {
    fc_task task;
    void *context;
    int threads;
    run *runs; /* one for each thread */
} job;

static struct {
    pthread_mutex_t busy; /* held by the caller whose job runs */
    pthread_mutex_t lock; /* guards everything below it */
    pthread_cond_t wake, left;
    int workers;        /* started so far */
    int seats;          /* how many of them, the first ones, may join the open job */
    atomic_int working; /* workers inside the job */
    job *open;          /* NULL when there is nothing to join */
    caller from;        /* who opened the last job */
    /* Counts jobs: 2n - 1 while the n-th is open, 2n when it is closed. Spinning workers watch it, away
     * from what the caller writes meanwhile. */
    _Alignas(CACHE_LINE) _Atomic uint64_t epoch;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER};

static atomic_int num_threads; /* 0: not asked for yet */

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void spin_while_epoch_is(uint64_t epoch, int64_t ns) {
    const int64_t end = now_ns() + ns;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&pool.epoch, memory_order_acquire) != epoch)
                return;
            relax();
        }
    } while (now_ns() < end);
}

/* Until job n + 1 is open, or some time has passed. The clock for idle workers starts when job n ends: one
 * that has run out of tasks before its caller would else be asleep when the caller's next job comes,
 * join it late, and run out of step with its caller from then on. */
static void watch_for_job_after(uint64_t n) {
    if (n > 0)
        spin_while_epoch_is(2 * n - 1, JOB_SPIN_NS);
    spin_while_epoch_is(2 * n, IDLE_SPIN_NS);
}

/* Takes neighbouring tasks together, more at first and single ones at the end: a line that another
 * thread takes from as well travels from core to core, which takes as long as a small task does. */
static void run_tasks(job *j, int slot) {
    for (int i = 0; i < j->threads; i++) {
        run *r = &j->runs[(slot + i) % j->threads];
        for (;;) {
            const ptrdiff_t left = r->end - atomic_load_explicit(&r->next, memory_order_relaxed);
            if (left <= 0)
                break;
            const ptrdiff_t count = FC_MAX(1, left / 4);
            ptrdiff_t task = atomic_fetch_add_explicit(&r->next, count, memory_order_relaxed);
            for (const ptrdiff_t end = FC_MIN(task + count, r->end); task < end; task++)
                j->task(j->context, task, slot);
        }
    }
}

#if defined(__linux__)
static __thread pid_t thread_id; /* of this thread, 0 until asked for */

static caller this_thread(void) {
    if (thread_id == 0)
        thread_id = (pid_t)syscall(SYS_gettid);
    return (caller){thread_id, sched_getcpu()};
}

/* A scheduler that saves processors may wake a worker on the very one that its caller computes on and
 * leave both there for tens of milliseconds: two threads at the speed of one (measured on a virtual
 * machine, docs/performance.md). Such a worker moves to any other one that its caller may use. */
static void leave_processor_of(caller from) {
    cpu_set_t allowed;
    if (sched_getcpu() != from.cpu || sched_getaffinity(from.id, sizeof allowed, &allowed) ||
        CPU_COUNT(&allowed) < 2)
        return;
    CPU_CLR(from.cpu, &allowed);
    sched_setaffinity(0, sizeof allowed, &allowed);
}

static void forget_thread(void) {
    thread_id = 0;
}
#else
static caller this_thread(void) {
    return (caller){0, -1};
}

static void leave_processor_of(caller from) {
    (void)from;
}

static void forget_thread(void) {
}
#endif

static void *worker(void *number) {
    const int slot = (int)(intptr_t)number; /* the caller has 0 */
    uint64_t seen = 0;                      /* jobs */
    for (;;) {
        watch_for_job_after(seen);
        pthread_mutex_lock(&pool.lock);
        while ((atomic_load(&pool.epoch) + 1) / 2 == seen)
            pthread_cond_wait(&pool.wake, &pool.lock);
        seen = (atomic_load(&pool.epoch) + 1) / 2;
        job *j = pool.open;
        const caller from = pool.from;
        if (slot > pool.seats)
            j = NULL;
        if (j)
            atomic_fetch_add(&pool.working, 1);
        pthread_mutex_unlock(&pool.lock);
        leave_processor_of(from); /* also when too late: it may be why */
        if (!j)
            continue;
        run_tasks(j, slot);
        pthread_mutex_lock(&pool.lock);
        if (atomic_fetch_sub(&pool.working, 1) == 1)
            pthread_cond_signal(&pool.left);
        pthread_mutex_unlock(&pool.lock);
    }
    return NULL;
}

/* The pool's own threads never run the host's signal handlers. */
static int start_worker(int slot) {
    sigset_t all, old;
    pthread_t thread;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int failed = pthread_create(&thread, &attributes, worker, (void *)(intptr_t)slot);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

static void reset_after_fork(void) {
    forget_thread();
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.left, NULL);
    atomic_store(&pool.epoch, 0);
    atomic_store(&pool.working, 0);
    pool.workers = pool.seats = 0;
    pool.open = NULL;
}

__attribute__((constructor)) static void register_fork(void) {
    pthread_atfork(NULL, NULL, reset_after_fork);
}

static void open_job(job *j, int workers) {
    pthread_mutex_lock(&pool.lock);
    while (pool.workers < workers && start_worker(pool.workers + 1))
        pool.workers++;
    pool.open = j;
    pool.from = this_thread();
    pool.seats = workers;
    pthread_cond_broadcast(&pool.wake);
    atomic_fetch_add(&pool.epoch, 1); /* last: spinning workers want the lock at once */
    pthread_mutex_unlock(&pool.lock);
}

static void close_job(void) {
    pthread_mutex_lock(&pool.lock);
    pool.open = NULL;
    atomic_fetch_add(&pool.epoch, 1);
    pthread_mutex_unlock(&pool.lock);
    const int64_t end = now_ns() + JOB_SPIN_NS;
    while (atomic_load_explicit(&pool.working, memory_order_acquire) > 0 && now_ns() < end)
        relax();
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.working) > 0)
        pthread_cond_wait(&pool.left, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

void fc_parallel_for(int threads, ptrdiff_t tasks, fc_task task, void *context) {
    threads = (int)FC_MIN((ptrdiff_t)threads, tasks);
    if (threads > 1 && pthread_mutex_trylock(&pool.busy) == 0) {
        run runs[MAX_THREADS];
        for (int i = 0; i < threads; i++) {
            const ptrdiff_t first = tasks / threads * i + FC_MIN(i, tasks % threads);
            atomic_init(&runs[i].next, first);
            runs[i].end = first + tasks / threads + (i < tasks % threads);
        }
        job j = {.task = task, .context = context, .threads = threads, .runs = runs};
        open_job(&j, threads - 1);
        run_tasks(&j, 0);
        close_job();
        pthread_mutex_unlock(&pool.busy);
        return;
    }
    for (ptrdiff_t i = 0; i < tasks; i++)
        task(context, i, 0);
}

/* ---- how many ---------------------------------------------------------------------------- */

static int clamp_threads(long threads) {
    return (int)FC_MAX(1, FC_MIN(threads, MAX_THREADS));
}

/* Whole processors that the control group's quota allows, 0 where there is no quota. */
static int cgroup_limit(void) {
    long quota = -1, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r"); /* version 2; "max 100000" is no quota */
    if (file) {
        if (fscanf(file, "%ld %ld", &quota, &period) != 2)
            quota = -1;
        fclose(file);
    } else if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(file, "%ld", &quota) != 1)
            quota = -1;
        fclose(file);
        if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
            if (fscanf(file, "%ld", &period) != 1)
                period = 0;
            fclose(file);
        }
    }
    return quota > 0 && period > 0 ? clamp_threads((quota + period - 1) / period) : 0;
}

static int available_cpus(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return clamp_threads(CPU_COUNT(&set));
#endif
    return clamp_threads(sysconf(_SC_NPROCESSORS_ONLN));
}

int fc_default_threads(void) {
    const char *const variables[] = {"FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"};
    for (int i = 0; i < 2; i++) {
        const char *text = getenv(variables[i]);
        const long value = text ? strtol(text, NULL, 10) : 0;
        if (value > 0)
            return clamp_threads(value);
    }
    const int cpus = available_cpus(), limit = cgroup_limit();
    return limit > 0 && limit < cpus ? limit : cpus;
}

int fc_get_num_threads(void) {
    int threads = atomic_load_explicit(&num_threads, memory_order_relaxed);
    if (threads == 0) {
        threads = fc_default_threads();
        atomic_store_explicit(&num_threads, threads, memory_order_relaxed);
    }
    return threads;
}

void fc_set_num_threads(int threads) {
    atomic_store(&num_threads, threads > 0 ? clamp_threads(threads) : fc_default_threads());
}

/* Below half a million multiply-adds (some 5 us of work) waking a worker costs more than it
 * brings. */
int fc_threads_for(double multiply_adds) {
    return multiply_adds < 5e5 ? 1 : fc_get_num_threads();
}
