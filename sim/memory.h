/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SIM_MEMORY_H
#define WEIR_SIM_MEMORY_H

#include <stddef.h>
#include <sys/mman.h>

/* Gives an engine's memory back. A slab of an asan build has poisoned what it holds: the next
 * mapping must not inherit that. */
static inline void sim_unmap(void *mem, size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    void __asan_unpoison_memory_region(void const volatile *addr, size_t n);
    __asan_unpoison_memory_region(mem, size);
#endif
    munmap(mem, size);
}

#endif
