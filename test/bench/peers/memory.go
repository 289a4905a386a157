package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// memoryMain is "bench memory": it writes to each page of much of the free memory and gives all of it back.
//
// A virtual machine gets a page of memory from its host when the page is first written to, and whoever writes pays for it. For
// the nodes of a queue that is the page cache of their logs: on a new machine to write a KiB of a log costs 1.6 µs of the
// processor for each replica, and 0.3 µs when the memory was in use before. So the first system measured would pay for all
// that come after it.
func memoryMain(args []string) {
	fs := flag.NewFlagSet("memory", flag.ExitOnError)
	most := fs.Int64("most", 8, "GiB at most")
	leave := fs.Int64("leave", 2, "GiB of the free memory to leave alone")
	fs.Parse(args)
	text, err := os.ReadFile("/proc/meminfo")
	check(err)
	free, err := freeMemory(string(text))
	check(err)
	size := min(*most<<30, free-*leave<<30)
	if size <= 0 {
		return
	}
	began := time.Now()
	check(touch(size))
	fmt.Fprintf(os.Stderr, "%.1f GiB of memory used once in %.1f s\n", float64(size)/(1<<30), time.Since(began).Seconds())
}

// freeMemory is how many bytes are unused by /proc/meminfo.
func freeMemory(meminfo string) (bytes int64, err error) {
	for line := range strings.Lines(meminfo) {
		if value, ok := strings.CutPrefix(line, "MemFree:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no line MemFree in /proc/meminfo")
}

// touch writes to each page of a piece of memory.
func touch(size int64) error {
	p, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	for at := 0; at < len(p); at += os.Getpagesize() {
		p[at] = 1
	}
	return syscall.Munmap(p)
}
