package ownthread

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNeverFirstThread(t *testing.T) {
	seen := map[int]bool{}
	for range 300 {
		tid, _ := Run(func() (int, error) { return unix.Gettid(), nil })
		if tid == unix.Getpid() {
			t.Fatal("f ran on the first thread")
		}
		if seen[tid] {
			t.Fatalf("thread %d ran two, want one that has ended", tid)
		}
		seen[tid] = true
	}
}
