package engine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// processStart reads when a process was started, in clock ticks since boot:
// field 22 of /proc/PID/stat, proc_pid_stat(5).
func processStart(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name may hold anything; fields count from its end.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is cut short", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
