package test

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockVar makes this program hold a lock on the file of that name, in a
// container: busybox cannot. It says so, and ends with 1 when another has it.
const lockVar = "COVE_TEST_LOCK"

func holdLock(name string) int {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		fmt.Println("locked")
		time.Sleep(100 * time.Millisecond)
	}
}
