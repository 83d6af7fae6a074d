package cove

import (
	"fmt"
	"slices"
	"strings"
)

// Configured is what containers.conf said of all containers when one was made,
// as far as it is neither asked for nor looked up at each start: it is the
// container's for good, as with podman. A zero field is podman 5's own default.
type Configured struct {
	Capabilities []string          `json:"capabilities,omitzero"` // CAP_X; nil is the default, an empty list none
	Env          []string          `json:"env,omitzero"`          // KEY=value; nil is DefaultPath
	Ulimits      []Ulimit          `json:"ulimits,omitempty"`
	Sysctl       map[string]string `json:"sysctl,omitempty"`
	CgroupConf   map[string]string `json:"cgroupConf,omitempty"` // files of a version 2 cgroup
	PidsLimit    *int64            `json:"pidsLimit,omitempty"`  // 0 or less: none; nil: 2048
	OOMScoreAdj  *int              `json:"oomScoreAdj,omitempty"`
	StopTimeout  *uint             `json:"stopTimeout,omitempty"` // seconds; nil: 10
	Umask        string            `json:"umask,omitempty"`       // octal
	Timezone     string            `json:"timezone,omitempty"`
	InitPath     string            `json:"initPath,omitempty"`
	// Namespace modes in the words of [ContainerSpec].
	PID      string `json:"pid,omitempty"`
	IPC      string `json:"ipc,omitempty"`
	UTS      string `json:"uts,omitempty"`
	CgroupNS string `json:"cgroupNS,omitempty"`
	Network  string `json:"network,omitempty"`

	AppArmor       string `json:"appArmor,omitempty"` // a profile's name
	Seccomp        string `json:"seccomp,omitempty"`  // a profile's path
	NameAsHostname bool   `json:"nameAsHostname,omitempty"`
}

// podman 5's defaults.
const (
	DefaultPidsLimit   = 2048
	DefaultStopTimeout = 10 // seconds
	DefaultUmask       = "0022"
	DefaultShmSize     = 65536000 // bytes: "65536k", whose k is a thousand
	// DefaultPath is PATH where neither containers.conf nor the image sets it.
	DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// DefaultCapabilities are those of a container for which nobody says otherwise.
func DefaultCapabilities() []string { return slices.Clone(defaultCapabilities) }

// Defaults is what was configured for the container.
func (c *Container) Defaults() Configured {
	if c.Configured == nil {
		return Configured{}
	}
	return *c.Configured
}

// BaseCapabilities are those that flags add to and drop from.
func (c *Container) BaseCapabilities() []string {
	if d := c.Defaults(); d.Capabilities != nil {
		return slices.Clone(d.Capabilities)
	}
	return DefaultCapabilities()
}

// Hostname is the container's in a namespace of its own.
func (c *Container) Hostname() string {
	if c.Spec.Hostname != "" {
		return c.Spec.Hostname
	}
	if c.Defaults().NameAsHostname {
		name := strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
				return r
			}
			return -1
		}, c.Name)
		if name != "" {
			return name
		}
	}
	return c.ID[:min(len(c.ID), ShortIDLength)]
}

// Environment joins the caller's, containers.conf's, the image's and the user's
// variables; later ones win, and what is to be unset goes before the user's. HOSTNAME
// is hostname unless somebody sets it; HOME is left to init, which reads the
// container's /etc/passwd. A systemd's machine ID is that of a process alone.
func (c *Container) Environment(hostname string, process bool) ([]string, error) {
	var env variables
	if !c.Spec.UnsetEnvAll {
		env.set("PATH", DefaultPath)
		// Programs ask for this variable to learn that they are in a container,
		// systemd foremost.
		env.set("container", "cove")
		configured := c.Defaults().Env
		if configured == nil {
			configured = []string{"PATH=" + DefaultPath}
		}
		for _, entries := range [][]string{c.Spec.HostEnv, configured} {
			if err := env.join(entries); err != nil {
				return nil, err
			}
		}
		if c.Spec.Terminal {
			env.set("TERM", "xterm")
		}
		if err := env.join(c.Image.Env); err != nil {
			return nil, err
		}
		for _, key := range c.Spec.UnsetEnv {
			env.unset(key)
		}
	}
	if err := env.merge(c.Spec.EnvMerge); err != nil {
		return nil, err
	}
	if err := env.join(c.Spec.Env); err != nil {
		return nil, err
	}
	if c.Systemd && process && !env.has("container_uuid") {
		env.set("container_uuid", c.ID[:32]) // systemd's machine ID
	}
	if hostname != "" && !env.has("HOSTNAME") {
		env.set("HOSTNAME", hostname)
	}
	return env, nil
}

// variables is an ordered environment: a later value takes the place of the
// earlier one.
type variables []string

func (v *variables) set(key, value string) {
	entry := key + "=" + value
	for i, e := range *v {
		if strings.HasPrefix(e, key+"=") {
			(*v)[i] = entry
			return
		}
	}
	*v = append(*v, entry)
}

// value gives "" for what is not there.
func (v variables) value(key string) string {
	for _, e := range v {
		if value, ok := strings.CutPrefix(e, key+"="); ok {
			return value
		}
	}
	return ""
}

func (v variables) has(key string) bool {
	return slices.ContainsFunc(v, func(e string) bool { return strings.HasPrefix(e, key+"=") })
}

func (v *variables) unset(key string) {
	*v = slices.DeleteFunc(*v, func(e string) bool { return strings.HasPrefix(e, key+"=") })
}

func (v *variables) join(entries []string) error {
	for _, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		if key == "" || strings.ContainsRune(e, 0) {
			return E("", "", Invalid, fmt.Errorf("invalid environment variable %q", e))
		}
		v.set(key, value)
	}
	return nil
}
