package procfs

import "golang.org/x/sys/unix"

// firstCgroupNamespace is the number that the kernel gives it, PROC_CGROUP_INIT_INO.
const firstCgroupNamespace = 0xEFFFFFFB

// FirstCgroupNamespace tells that path (/proc/PID/ns/cgroup) is the machine's first
// cgroup namespace, or cannot be read. A mount of version 2 from there sets the
// options of all others: it would take away nsdelegate, which keeps containers from
// their own limits (cgroup_get_tree of the kernel).
func FirstCgroupNamespace(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) != nil || st.Ino == firstCgroupNamespace
}
