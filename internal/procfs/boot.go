package procfs

import (
	"os"
	"strings"
	"sync/atomic"
)

// bootID is what BootID has read.
var bootID atomic.Pointer[string]

// BootID identifies this boot of the kernel, random(4); "" where it tells none,
// or when it cannot be asked just now. Nothing outlives a boot, so it is read
// once.
func BootID() string {
	if id := bootID.Load(); id != nil {
		return *id
	}
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	id := strings.TrimSpace(string(data))
	bootID.Store(&id)
	return id
}

// OtherBoot tells whether what was in the boot of that ID has surely ended with
// it. What is not known of either is no reason to take what runs for ended.
func OtherBoot(id string) bool {
	now := BootID()
	return id != "" && now != "" && id != now
}
