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

// Booted is when this boot began. It is exact, where sysinfo(2) rounds up to a second:
// on a virtual machine the boot before may have ended a tenth of one earlier.
func Booted() time.Time {
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) // cannot fail
	// Round: it is no moment of this boot, of which Go's clock could tell.
	return time.Now().Add(-time.Duration(up.Nano())).Round(0)
}
