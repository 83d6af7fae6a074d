package procfs

import (
	"os"
	"strings"
	"sync"
)

// BootID identifies this boot of the kernel, random(4); "" where it tells none.
// Nothing outlives a boot, so it is read once.
var BootID = sync.OnceValue(func() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
})
