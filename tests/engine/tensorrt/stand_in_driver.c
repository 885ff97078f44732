/* The part of NVIDIA's driver that rtseg.engine.tensorrt.device calls, on this machine's memory, with the
   signatures of cuda.h.

   Copies and fills wait in the stream until it is synchronised, or go into the graph that is being captured. An address
   that was cut to 32 bits, or arguments in another order, end in a wrong answer or a crash. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
typedef struct { int kind; void *to; const void *from; size_t n; int value; } Op;
typedef struct { Op ops[256]; int n; } List;
typedef struct { List pending, *captured; } Stream;

static int contexts, context_here, allocations, next_error;

int stand_in_allocations(void) { return allocations; }
int stand_in_contexts(void) { return contexts; }
void stand_in_fail_next(int code) { next_error = code; }

static CUresult result(void) { int code = next_error; next_error = 0; return code; }

static CUresult put(Stream *stream, Op op)
{
    List *list = stream->captured ? stream->captured : &stream->pending;
    if (list->n == 256) return 2;
    list->ops[list->n++] = op;
    return result();
}

static void run(List *list)
{
    for (int i = 0; i < list->n; i++) {
        Op *op = &list->ops[i];
        if (op->kind) memset(op->to, op->value, op->n); else memcpy(op->to, op->from, op->n);
    }
}

CUresult cuInit(unsigned flags) { return flags ? 1 : result(); }
CUresult cuDeviceGet(int *device, int ordinal) { *device = 7 + ordinal; return result(); }
CUresult cuDevicePrimaryCtxRetain(void **context, int device)
{
    if (device != 7) return 101;
    contexts++;
    *context = &context_here;
    return result();
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) { contexts -= device == 7; return 0; }
CUresult cuCtxSetCurrent(void *context) { return context == &context_here ? result() : 201; }
CUresult cuStreamCreate(void **stream, unsigned flags)
{
    if (flags != 1) return 1;
    *stream = calloc(1, sizeof(Stream));
    return result();
}
CUresult cuStreamDestroy_v2(void *stream) { free(stream); return 0; }
CUresult cuStreamSynchronize(void *stream)
{
    Stream *s = stream;
    if (s->captured) return 900;
    run(&s->pending);
    s->pending.n = 0;
    return result();
}
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t n)
{
    void *p = NULL;
    if (next_error) return result();
    if (posix_memalign(&p, 512, n)) return 2;
    memset(p, 0xAB, n);
    allocations++;
    *address = (CUdeviceptr)(uintptr_t)p;
    return 0;
}
CUresult cuMemFree_v2(CUdeviceptr address) { allocations--; free((void *)(uintptr_t)address); return 0; }
CUresult cuMemHostAlloc(void **address, size_t n, unsigned flags)
{
    if (flags) return 1;
    allocations++;
    *address = malloc(n);
    memset(*address, 0xCD, n);
    return result();
}
CUresult cuMemFreeHost(void *address) { allocations--; free(address); return 0; }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, void *stream)
{
    return put(stream, (Op){0, (void *)(uintptr_t)to, from, n, 0});
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, void *stream)
{
    return put(stream, (Op){0, to, (const void *)(uintptr_t)from, n, 0});
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, void *stream)
{
    return put(stream, (Op){1, (void *)(uintptr_t)to, NULL, n, value});
}
CUresult cuStreamBeginCapture_v2(void *stream, int mode)
{
    if (mode != 1) return 1;
    ((Stream *)stream)->captured = calloc(1, sizeof(List));
    return result();
}
CUresult cuStreamEndCapture(void *stream, void **graph)
{
    *graph = ((Stream *)stream)->captured;
    ((Stream *)stream)->captured = NULL;
    allocations++;
    return result();
}
CUresult cuGraphInstantiateWithFlags(void **ready, void *graph, unsigned long long flags)
{
    if (flags) return 1;
    *ready = malloc(sizeof(List));
    memcpy(*ready, graph, sizeof(List));
    allocations++;
    return result();
}
CUresult cuGraphLaunch(void *ready, void *stream)
{
    List *list = ready;
    for (int i = 0; i < list->n; i++)
        if (put(stream, list->ops[i])) return 2;
    return result();
}
CUresult cuGraphDestroy(void *graph) { allocations--; free(graph); return 0; }
CUresult cuGraphExecDestroy(void *ready) { allocations--; free(ready); return 0; }
CUresult cuGetErrorString(CUresult code, const char **text)
{
    *text = code == 2 ? "out of memory" : NULL;
    return code == 2 ? 0 : 1;
}
