// A work-sharing thread pool. `python -m convc.backends.cpu.pool` makes `pool.ll` of this file: one text for x86-64 and for aarch64, with nothing
// of its own outside the pool object, so that several libraries may hold a copy and share a pool. It is for Linux's libc.
//
// A launch cuts [0, extent) into one contiguous part for each participant, who hands it out to himself in pieces from the
// front, and then takes pieces from the far ends of the others' parts: a participant who never comes, or is slow, costs his
// share of the work and no more. Nobody waits for a worker who has not joined.
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LOAD(word, order) __atomic_load_n(&(word), __ATOMIC_##order)
#define STORE(word, value, order) __atomic_store_n(&(word), value, __ATOMIC_##order)
#define ADD(word, value, order) __atomic_fetch_add(&(word), value, __ATOMIC_##order)
#ifndef SPIN
#define SPIN 30000     // ns that a worker looks out for the next launch, and a caller for the last worker, before they sleep
#endif
#ifndef PIECE
#define PIECE 4        // a piece is this part of what is left of a range, so there are few, and the last ones are small
#endif
#define JOBS 16        // launches at one time; the callers of any more do their work by themselves
#define PARTS 128      // participants in one launch
#define LINE 128       // bytes between words of different threads: processors fetch cache lines of 64 bytes in pairs
#define STACK (1 << 20)  // generated kernels keep little there, but libc puts the thread-local data of all libraries there too
#define SEAT (1LL << 32)    // in a job's state: above, the seats that are free; below, the workers inside;
#define ASLEEP (1LL << 31)  // between, whether the caller sleeps until the last of them leaves

typedef void body_t(int64_t closure, int64_t begin, int64_t end, int64_t worker);
typedef struct { alignas(16) char room[64]; } opaque;  // a mutex or a condition, whose sizes differ between processors

struct part {
    alignas(LINE) int64_t left;  // what nobody has taken yet: the beginning above, the end below
    int64_t taken;               // by a worker, as his seat
};

// A worker touches a job between joining and leaving only, but for `state`, which he looks at at any time: hence jobs lie in
// the pool, which is never freed. He joins by an exchange of `state` that fails if no seat is free. The caller takes the free
// seats away before he waits until nobody is inside. So no worker can be inside when the caller leaves, nor come in until a
// caller opens the job again; an exchange that succeeds only then has joined the new job, and reads it afterwards.
struct job {
    alignas(LINE) int64_t state;
    int64_t used;  // by a caller
    body_t *body;
    int64_t closure, parts;
    opaque done;
    struct part part[PARTS];
};

// All zeros is a pool with no workers, and fork() leaves zeros to the child: see convc_pool_new().
struct pool {
    alignas(LINE) int64_t launches;  // workers who find no work wait for this to change
    int64_t sleepers;                // workers who sleep, and were not woken yet
    int64_t asked;                   // workers who were asked for so far
    alignas(LINE) int64_t idle;      // workers who are awake, or woken, and are in no job
    int64_t numbers;                 // of workers, handed out
    int64_t woken;                   // sleepers who may get up; under the lock
    opaque lock, wake;
    struct job job[JOBS];
};

struct handle {
    struct pool *pool;
    void *(*work)(void *);  // of the library that made the pool, and has to stay; another one that launches may go
    int64_t process;        // 0 where fork() leaves zeros
};

static void lock(struct pool *pool) { pthread_mutex_lock((pthread_mutex_t *)&pool->lock); }
static void unlock(struct pool *pool) { pthread_mutex_unlock((pthread_mutex_t *)&pool->lock); }

// It takes some 25 ns, which makes it a pause between two looks at a word, too, and one that needs no processor's instruction.
static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// Relaxed, since a part's ends say all about it: it only shrinks. What bodies read and write is ordered by joining and leaving.
static void take_part(struct job *job, int64_t me) {
    for (int64_t i = 0, whose = me; i < job->parts; i++, whose = whose + 1 < job->parts ? whose + 1 : 0) {
        int64_t *left = &job->part[whose].left, seen = LOAD(*left, RELAXED);
        for (;;) {
            int64_t begin = seen >> 32, end = seen & INT_MAX, piece = (end - begin + PIECE - 1) / PIECE;
            if (piece == 0)
                break;
            int64_t rest = whose == me ? seen + (piece << 32) : seen - piece;
            if (!__atomic_compare_exchange_n(left, &seen, rest, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                continue;
            begin = whose == me ? begin : end - piece;
            job->body(job->closure, begin, begin + piece, me);
            seen = LOAD(*left, RELAXED);
        }
    }
}

// Joins a job if it has a free seat, does what is to be done, and leaves.
static void help(struct pool *pool, struct job *job, int64_t number) {
    int64_t state = LOAD(job->state, RELAXED);
    do
        if (state < SEAT)
            return;
    while (!__atomic_compare_exchange_n(&job->state, &state, state - SEAT + 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    ADD(pool->idle, -1, SEQ_CST);
    // The same seat in all launches, for the sake of caches, or else another: there are as many as ever join.
    int64_t seat = (number - 1) % (job->parts - 1) + 1;
    while (__atomic_exchange_n(&job->part[seat].taken, 1, __ATOMIC_RELAXED) != 0)
        seat = seat + 1 < job->parts ? seat + 1 : 1;
    take_part(job, seat);
    ADD(pool->idle, 1, SEQ_CST);  // before the caller can go on, who counts the idle in his next launch
    if (ADD(job->state, -1, RELEASE) == ASLEEP + 1) {
        lock(pool);  // the caller, or the next one of this job, who looks again, is in his sleep or before it
        pthread_cond_broadcast((pthread_cond_t *)&job->done);
        unlock(pool);
    }
}

static void *work(void *argument) {
    struct pool *pool = argument;
    int64_t number = ADD(pool->numbers, 1, RELAXED) + 1, patience = SPIN;
    for (;;) {
        int64_t seen = LOAD(pool->launches, SEQ_CST), begin, end;
        for (int64_t i = 0; i < JOBS; i++)
            help(pool, &pool->job[i], number);
        for (begin = end = now(); LOAD(pool->launches, SEQ_CST) == seen && end - begin < patience; end = now())
            sched_yield();  // to another busy process, which else is put before this worker when there is work
        if (LOAD(pool->launches, SEQ_CST) == seen) {
            lock(pool);
            // A launch counts itself and then looks for sleepers; this is the other way round, so one sees the other.
            ADD(pool->sleepers, 1, SEQ_CST);
            ADD(pool->idle, -1, SEQ_CST);
            if (LOAD(pool->launches, SEQ_CST) == seen) {
                while (pool->woken == 0)
                    pthread_cond_wait((pthread_cond_t *)&pool->wake, (pthread_mutex_t *)&pool->lock);
                pool->woken--;
            } else {
                ADD(pool->sleepers, -1, SEQ_CST);
                ADD(pool->idle, 1, SEQ_CST);
            }
            unlock(pool);
            end = now();
        }
        patience = end - begin < SPIN ? SPIN : patience / 2;  // spin where it would have been worth while the last time
    }
    return NULL;
}

// Starts workers, where more are asked for than ever. If that fails it is not tried again, which would cost time in each launch.
static void start(struct pool *pool, int64_t workers, void *(*work)(void *)) {
    opaque attributes;
    sigset_t all, before;
    pthread_t thread;
    lock(pool);
    if (pool->asked < workers && pthread_attr_init((pthread_attr_t *)&attributes) == 0) {
        pthread_attr_setdetachstate((pthread_attr_t *)&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize((pthread_attr_t *)&attributes, STACK);
        sigfillset(&all);  // signals are for the program's own threads
        pthread_sigmask(SIG_SETMASK, &all, &before);
        for (int64_t i = pool->asked; i < workers; i++) {
            ADD(pool->idle, 1, SEQ_CST);
            if (pthread_create(&thread, (pthread_attr_t *)&attributes, work, pool) != 0) {
                ADD(pool->idle, -1, SEQ_CST);
                break;
            }
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy((pthread_attr_t *)&attributes);
    }
    if (pool->asked < workers)
        STORE(pool->asked, workers, RELAXED);
    unlock(pool);
}

// Wakes as many sleepers as there are seats that no idle worker will take.
static void wake(struct pool *pool, struct job *job) {
    lock(pool);
    int64_t idle = LOAD(pool->idle, SEQ_CST);  // before the seats: a worker who joins in between counts for both
    int64_t workers = LOAD(job->state, SEQ_CST) / SEAT - idle, sleepers = LOAD(pool->sleepers, SEQ_CST);
    workers = workers < sleepers ? workers : sleepers;
    if (workers > 0) {
        ADD(pool->sleepers, -workers, SEQ_CST);
        ADD(pool->idle, workers, SEQ_CST);
        pool->woken += workers;
    }
    unlock(pool);
    if (workers == 1)
        pthread_cond_signal((pthread_cond_t *)&pool->wake);
    else if (workers > 1)
        pthread_cond_broadcast((pthread_cond_t *)&pool->wake);
}

static struct job *find(struct handle *handle) {
    if (handle->process == 0 || handle->process == getpid())
        for (struct job *job = handle->pool->job; job < handle->pool->job + JOBS; job++)
            if (LOAD(job->used, RELAXED) == 0 && __atomic_exchange_n(&job->used, 1, __ATOMIC_ACQUIRE) == 0)
                return job;
    return NULL;
}

void convc_pool_launch(void *handle, int64_t threads, body_t *body, int64_t closure, int64_t extent) {
    int64_t parts = threads < extent ? threads : extent;
    struct job *job = handle != NULL && parts > 1 && extent < INT_MAX ? find(handle) : NULL;
    if (job == NULL) {
        body(closure, 0, extent, 0);
        return;
    }
    struct pool *pool = ((struct handle *)handle)->pool;
    if (LOAD(pool->asked, RELAXED) < threads - 1)
        start(pool, threads - 1, ((struct handle *)handle)->work);
    job->body = body;
    job->closure = closure;
    job->parts = parts = parts < PARTS ? parts : PARTS;
    for (int64_t i = 0, begin = 0, end; i < parts; i++, begin = end) {
        end = (uint64_t)extent * (i + 1) / parts;
        STORE(job->part[i].left, begin << 32 | end, RELAXED);
        STORE(job->part[i].taken, 0, RELAXED);
    }
    STORE(job->state, (parts - 1) * SEAT, RELEASE);
    ADD(pool->launches, 1, SEQ_CST);
    if (LOAD(pool->sleepers, SEQ_CST) != 0)
        wake(pool, job);
    take_part(job, 0);
    __atomic_fetch_and(&job->state, SEAT - 1, __ATOMIC_RELAXED);
    for (int64_t begin = 0; LOAD(job->state, ACQUIRE) != 0;) {
        int64_t time = now();
        begin = begin == 0 ? time : begin;
        if (time - begin < SPIN)
            continue;
        // Sleep: perhaps the system runs the worker that is missing in this thread's place.
        __atomic_fetch_or(&job->state, ASLEEP, __ATOMIC_RELAXED);
        lock(pool);
        while (LOAD(job->state, ACQUIRE) != ASLEEP)
            pthread_cond_wait((pthread_cond_t *)&job->done, (pthread_mutex_t *)&pool->lock);
        unlock(pool);
        break;
    }
    STORE(job->used, 0, RELEASE);
}

void *convc_pool_new(void) {
    struct handle *handle = malloc(sizeof *handle);
    struct pool *pool = mmap(NULL, sizeof *pool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (handle == NULL || pool == MAP_FAILED) {
        free(handle);
        return NULL;  // and the mapping, if there is one, stays: there is no memory in any case
    }
    // A child of fork() has none of the workers, and of the callers only the one that forked, who was in no launch. It finds
    // zeros in place of the pool, which is a new pool. Where the system cannot do that, a child does all work by itself; some
    // emulators cannot, and say yes to anything, hence the first question.
    int wiped = madvise(pool, sizeof *pool, -1) != 0 && madvise(pool, sizeof *pool, MADV_WIPEONFORK) == 0;
    *handle = (struct handle){pool, work, wiped ? 0 : getpid()};
    return handle;
}

_Static_assert(sizeof(pthread_mutex_t) <= sizeof(opaque) && sizeof(pthread_cond_t) <= sizeof(opaque), "room");
_Static_assert(sizeof(pthread_attr_t) <= sizeof(opaque) && sizeof(long) == 8, "room");
