package procfs

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What was written just before a boot is of the boot before: the time of this one is
// not rounded. On a virtual machine a tenth of a second lies between them.
func TestBooted(t *testing.T) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/proc/uptime", &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		t.Skip("/proc/uptime is not the kernel's own")
	}
	before := time.Now()
	text, err := os.ReadFile("/proc/uptime")
	after := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	up, err := time.ParseDuration(strings.Fields(string(text))[0] + "s") // in hundredths
	if err != nil {
		t.Fatal(err)
	}
	const exact = 20 * time.Millisecond
	for range 20 { // until the second is not all but over, for which rounding up is right
		asked := time.Now()
		boot := Booted()
		if early, late := before.Add(-up-exact), after.Add(-up+exact+time.Since(asked)); boot.Before(early) || boot.After(late) {
			t.Fatalf("%s, by /proc/uptime between %s and %s", boot, early, late)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
