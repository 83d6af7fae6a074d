package spec

import "github.com/cove-engine/cove"

// Defaults is what containers.conf says that matters to a spec and is not in the
// record since the container was made. Modes and names are containers.conf's own
// words. StandardDefaults gives the values of
// an empty containers.conf; the zero value is not usable (no capabilities, no
// PATH).
type Defaults struct {
	Capabilities []string // default_capabilities
	Env          []string // env, KEY=value
	Ulimits      []cove.Ulimit
	Sysctls      map[string]string
	ShmSize      int64  // bytes
	PidsLimit    int64  // 0 or less: none
	Umask        string // octal
	Timezone     string // tz
	InitPath     string
	OOMScoreAdj  *int
	Unified      map[string]string // cgroup_conf

	PIDNS, IPCNS, UTSNS, CgroupNS, UserNS, NetNS string

	AppArmorProfile string
	SeccompProfile  string // path, "" is the built-in

	ContainerNameAsHostname bool
}

// defaultPath is PATH where neither containers.conf nor the image sets it.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// StandardDefaults are the values that podman 5 uses without a containers.conf.
func StandardDefaults() Defaults {
	return Defaults{
		Capabilities: []string{
			"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
			"CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
			"CAP_SETUID", "CAP_SYS_CHROOT",
		},
		Env:             []string{defaultPath},
		ShmSize:         65536000, // "65536k", whose k is a thousand
		PidsLimit:       2048,
		Umask:           "0022",
		PIDNS:           "private",
		IPCNS:           "shareable",
		UTSNS:           "private",
		CgroupNS:        "private",
		UserNS:          "host",
		NetNS:           "private",
		AppArmorProfile: "containers-default",
	}
}
