package test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// traceVar makes this program a debugger that holds the main threads of these
// processes until it is killed: no signal lets them go on. $SELF is its path.
const traceVar = "COVE_TEST_TRACE"

func trace(pids string) int {
	runtime.LockOSThread()
	for text := range strings.FieldsSeq(pids) {
		pid, err := strconv.Atoi(text)
		if err == nil {
			err = unix.PtraceSeize(pid)
		}
		if err == nil {
			err = unix.PtraceInterrupt(pid)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "trace", text, err)
			return 1
		}
	}
	time.Sleep(time.Hour)
	return 0
}
