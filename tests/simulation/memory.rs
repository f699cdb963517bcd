//! How much memory the server has, apart from that of the world around it.

// Only an unsafe trait can count memory.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts the bytes of a thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static SERVER: Cell<isize> = const { Cell::new(0) };
    static WORLD: Cell<isize> = const { Cell::new(0) };
    static IS_WORLD: Cell<bool> = const { Cell::new(true) };
}

fn count(bytes: isize) {
    let counter = if IS_WORLD.get() { &WORLD } else { &SERVER };
    counter.set(counter.get() + bytes);
}

// SAFETY: every call is passed on unchanged, and counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Whose memory is counted until this is dropped.
pub struct Owner {
    was_world: bool,
}

impl Owner {
    pub fn world() -> Owner {
        Owner { was_world: IS_WORLD.replace(true) }
    }

    pub fn server() -> Owner {
        Owner { was_world: IS_WORLD.replace(false) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        IS_WORLD.set(self.was_world);
    }
}

/// The bytes that the server has; fewer than none if it has freed what the world has allocated.
pub fn of_server() -> isize {
    SERVER.get()
}

/// The bytes of server and world.
pub fn of_both() -> isize {
    SERVER.get() + WORLD.get()
}
