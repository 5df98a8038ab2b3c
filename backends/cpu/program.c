// Runs the calls of a network, which the runtime encodes as 64-bit integers (convc/runtime/cpu/plan.py: encoded).
// `python -m convc.backends.cpu.carried` makes `program.ll` of this file: one text for x86-64 and for aarch64.
#include <stdint.h>

typedef int32_t kernel(const int64_t *arguments, const int64_t *context);
typedef void tracer(int64_t index);
struct place { int64_t base, offset; };
// An address that varies with the step of a loop: `first` in step 0, then `odd` and `even` in turns, `stride` farther in each step.
struct varying { struct place first, even, odd; int64_t stride; };
// `target` is the address of a kernel, and `count` the number of places of its arguments, which follow.
// It is 0 for a loop, whose `steps`, number of varying addresses (`count`) and `length` of its body in integers follow.
struct call { int64_t target, count; struct place arguments[]; };
struct loop { int64_t zero, count, steps, length; struct varying bases[]; };

static int64_t address(struct place place, const int64_t *bases) { return bases[place.base] + place.offset; }

// `room` has space for the addresses of a call, and for those of the loops around it.
static void run(
    const int64_t *at, const int64_t *end, const int64_t *bases, int64_t *room, const int64_t *context, tracer *trace
) {
    for (int64_t index = 0; at < end; index++) {
        if (trace)
            trace(index);
        const struct call *call = (const struct call *)at;
        int64_t count = call->count;
        if (call->target) {
            for (int64_t i = 0; i < count; i++)
                room[i] = address(call->arguments[i], bases);
            ((kernel *)call->target)(room, context);
            at = (const int64_t *)(call->arguments + count);
            continue;
        }
        const struct loop *loop = (const struct loop *)at;
        at = (const int64_t *)(loop->bases + count);
        room[0] = 0;
        for (int64_t step = 0; step < loop->steps; step++) {
            for (int64_t i = 0; i < count; i++) {
                const struct varying *v = &loop->bases[i];
                struct place place = step == 0 ? v->first : step % 2 ? v->odd : v->even;
                room[i + 1] = address(place, bases) + step * v->stride;
            }
            run(at, at + loop->length, room, room + count + 1, context, 0);
        }
        at += loop->length;
    }
    if (trace)
        trace(-1);
}

// `arguments` are the address of the calls, their number of integers, the address of the bases, the first of which is 0, and
// the address of the room.
int32_t convc_run(const int64_t *arguments, const int64_t *context) {
    const int64_t *calls = (const int64_t *)arguments[0], *bases = (const int64_t *)arguments[2];
    run(calls, calls + arguments[1], bases, (int64_t *)arguments[3], context, (tracer *)context[4]);
    return 0;
}
