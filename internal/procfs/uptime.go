package procfs

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Uptime is how long the machine has been up, by /proc/uptime, which is finer than
// sysinfo(2), where it can be read. False: the kernel tells it in neither way.
func Uptime() (time.Duration, bool) {
	if data, err := Read("/proc/uptime", 128); err == nil {
		first, _, _ := strings.Cut(string(data), " ")
		if s, err := strconv.ParseFloat(first, 64); err == nil {
			return time.Duration(s * float64(time.Second)), true
		}
	}
	var si unix.Sysinfo_t
	err := unix.Sysinfo(&si)
	return time.Duration(si.Uptime) * time.Second, err == nil
}
