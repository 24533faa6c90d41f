//! The process that holds a pod's namespaces open.
//!
//! It owns three duties and knows nothing else: stay alive at next to no cost, reap the orphans that fall to
//! PID 1 when a pod shares its PID namespace, and end at once, with code 0, on SIGTERM or SIGINT. Every other
//! signal that can be ignored is.
//!
//! `build.rs` compiles this file by itself with `rustc`, without the standard library and without libc, into
//! a static executable of a few KiB. That is why it talks to the kernel directly, and why it is the one place
//! in berth with `unsafe`.
//!
//! All signals are blocked and then waited for, rather than caught. A blocked signal is kept for PID 1 even
//! where its default action would have been dropped, there is no handler that could race with the wait, and
//! no signal trampoline is needed without libc.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const EINTR: isize = 4;

/// The kernel's signal set: one bit for each of the 64 signals.
const ALL_SIGNALS: u64 = u64::MAX;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
}

// The kernel enters with the stack pointer at argc and no return address. Both calling conventions want the
// outermost frame marked by a zero frame pointer and a stack aligned to 16 bytes at the call.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    main = sym main,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "bl {main}",
    main = sym main,
);

extern "C" fn main() -> ! {
    if block_signals() < 0 {
        exit(1);
    }
    loop {
        // Before the first wait as well: a child may have died before the signals were blocked.
        while reap_one() > 0 {}
        match next_signal() {
            SIGINT | SIGTERM => exit(0),
            // A stop and a continue interrupt the wait; any other failure would come again at once, and a
            // pause that spins is worse than one that is restarted.
            error if error < 0 && error != -EINTR => exit(1),
            _ => {}
        }
    }
}

fn block_signals() -> isize {
    let set = ALL_SIGNALS;
    // SAFETY: the kernel reads eight bytes at the given address, which is a live local of eight bytes, and
    // writes nothing because the place for the old set is null.
    unsafe {
        syscall(
            number::RT_SIGPROCMASK,
            SIG_BLOCK,
            &raw const set as usize,
            0,
            size_of::<u64>(),
        )
    }
}

/// Waits for the next signal without a limit; a negative number is an error number.
fn next_signal() -> isize {
    let set = ALL_SIGNALS;
    // SAFETY: the kernel reads eight bytes at the given address, which is a live local of eight bytes, and
    // writes nothing because the place for the details is null. A null time-out means none.
    unsafe {
        syscall(
            number::RT_SIGTIMEDWAIT,
            &raw const set as usize,
            0,
            0,
            size_of::<u64>(),
        )
    }
}

/// Takes one dead child's status; its process number, or zero or less when there is none to take.
fn reap_one() -> isize {
    // SAFETY: the places for the status and for the resource usage are null, so the kernel writes nothing.
    unsafe { syscall(number::WAIT4, usize::MAX, 0, WNOHANG, 0) }
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: the call takes a plain number, touches no memory and does not return.
        unsafe { syscall(number::EXIT_GROUP, code, 0, 0, 0) };
    }
}

/// One system call of four arguments.
///
/// # Safety
/// Arguments that the kernel takes for addresses are valid for what call `number` reads and writes there.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: registers are those of the Linux x86-64 system call convention; `syscall` overwrites rcx and
    // r11 and leaves every other register and the stack alone. Memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// One system call of four arguments.
///
/// # Safety
/// Arguments that the kernel takes for addresses are valid for what call `number` reads and writes there.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: registers are those of the Linux arm64 system call convention; the kernel preserves all but
    // x0 and leaves the stack alone. Memory is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            options(nostack),
        );
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(1)
}
