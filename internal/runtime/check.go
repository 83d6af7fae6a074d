package runtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
	"github.com/cove-engine/cove/internal/oci/native"
)

// loadSpec reads a bundle's config.json.
func (r *Runtime) loadSpec(bundle string) (*specs.Spec, error) {
	data, path, err := readConfig(bundle)
	if err != nil {
		return nil, err
	}
	s := new(specs.Spec)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, cove.E("read spec", path, cove.Invalid, err)
	}
	// What a spec has more than we know is to be passed over. This confines.
	if bytes.Contains(data, []byte(`"landlock"`)) {
		type section struct{ Landlock json.RawMessage }
		var more struct{ Process, Linux section }
		if json.Unmarshal(data, &more) == nil && more.Process.Landlock != nil || more.Linux.Landlock != nil {
			r.warn("landlock: is not supported; ignored")
		}
	}
	return s, nil
}

func invalid(format string, args ...any) error {
	return cove.E("", "", cove.Invalid, fmt.Errorf(format, args...))
}

// check refuses what a spec must not say, and completes what it leaves out.
func (r *Runtime) check(s *specs.Spec, bundle string) error {
	if !strings.HasPrefix(s.Version, "1.") {
		return invalid("ociVersion: %q is not 1.x", s.Version)
	}
	if s.Process == nil {
		return invalid("process: is missing")
	}
	if s.Root == nil || s.Root.Path == "" {
		return invalid("root.path: is missing")
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	if !filepath.IsAbs(s.Root.Path) {
		s.Root.Path = filepath.Join(bundle, s.Root.Path)
	}
	// The root is the directory that the path leads to now.
	path, err := filepath.EvalSymlinks(s.Root.Path)
	if err != nil {
		return cove.E("", "root.path", cove.NoFile, err)
	}
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		return invalid("root.path: %s is not a directory", path)
	}
	s.Root.Path = path
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if filepath.Clean("/"+m.Destination) == "/" {
			return invalid("mounts: %q is the root itself", m.Destination)
		}
		bind := m.Type == "bind"
		for _, o := range m.Options {
			bind = bind || o == "bind" || o == "rbind"
		}
		if bind && m.Source != "" && !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(bundle, m.Source)
		}
	}
	if p := s.Linux.CgroupsPath; p != "" && filepath.Clean("/"+p) == "/" {
		return invalid("linux.cgroupsPath: %q is the host's own cgroup", p)
	}
	if err := r.checkProcess(s.Process); err != nil {
		return err
	}
	if err := checkHooks(s.Hooks); err != nil {
		return err
	}
	return r.checkNamespaces(s)
}

func (r *Runtime) checkProcess(p *specs.Process) error {
	if len(p.Args) == 0 {
		return invalid("process.args: must not be empty")
	}
	if !filepath.IsAbs(p.Cwd) {
		return invalid("process.cwd: %q is not absolute", p.Cwd)
	}
	for _, a := range p.Args {
		if strings.IndexByte(a, 0) >= 0 {
			return invalid("process.args: %q has a zero byte", a)
		}
	}
	for _, e := range p.Env {
		if strings.IndexByte(e, '=') < 1 || strings.IndexByte(e, 0) >= 0 {
			return invalid("process.env: %q is not NAME=VALUE", e)
		}
	}
	if a := p.ExecCPUAffinity; a != nil { // for execs to come
		for field, list := range map[string]string{"initial": a.Initial, "final": a.Final} {
			if _, err := native.CPUs(list); err != nil {
				return invalid("process.execCPUAffinity.%s: %q is not a list such as 0-3,8", field, list)
			}
		}
	}
	if err := checkRlimits(p.Rlimits); err != nil {
		return err
	}
	if p.Capabilities != nil {
		r.dropUnknown(p.Capabilities)
	}
	return nil
}

// checkHooks refuses what config.md of runtime-spec, "POSIX-platform Hooks", does.
func checkHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	for _, at := range []struct {
		point string
		hooks []specs.Hook
	}{
		//lint:ignore SA1019 Prestart is old and still used
		{"prestart", h.Prestart}, {"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer},
		{"startContainer", h.StartContainer}, {"poststart", h.Poststart}, {"poststop", h.Poststop},
	} {
		for _, hook := range at.hooks {
			if !filepath.IsAbs(hook.Path) {
				return invalid("hooks.%s: path: %q is not absolute", at.point, hook.Path)
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return invalid("hooks.%s: timeout: %d is not more than zero", at.point, *hook.Timeout)
			}
		}
	}
	return nil
}

// checkRlimits refuses what the kernel would not set, which init would find out
// when it is started.
func checkRlimits(limits []specs.POSIXRlimit) error {
	seen := map[string]bool{}
	for _, l := range limits {
		switch {
		case seen[l.Type]:
			return invalid("process.rlimits: %s is there twice", l.Type)
		case !strings.HasPrefix(l.Type, "RLIMIT_"):
			return invalid("process.rlimits: %s is not a limit", l.Type)
		case l.Soft > l.Hard:
			return invalid("process.rlimits: %s: its soft value, %d, is above its hard one, %d", l.Type, l.Soft, l.Hard)
		case l.Type == "RLIMIT_NOFILE":
			const name = "/proc/sys/fs/nr_open"
			text, _ := os.ReadFile(name)
			most, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
			if err == nil && l.Hard > most {
				return invalid("process.rlimits: %s: its hard value, %d, is above that of %s, %d", l.Type, l.Hard, name, most)
			}
		}
		seen[l.Type] = true
	}
	return nil
}

// dropUnknown drops capabilities that nobody has heard of, as every runtime does: a
// newer engine asks for newer ones, and less is given than was asked for.
func (r *Runtime) dropUnknown(c *specs.LinuxCapabilities) {
	told := map[string]bool{}
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
		var kept []string
		for _, n := range *set {
			if _, ok := capability.Number(n); ok {
				kept = append(kept, n)
			} else if !told[n] {
				told[n] = true
				r.warn("process.capabilities: " + n + " is not a capability; ignored")
			}
		}
		*set = kept
	}
}

func (r *Runtime) checkNamespaces(s *specs.Spec) error {
	seen := map[specs.LinuxNamespaceType]bool{}
	own := map[specs.LinuxNamespaceType]bool{} // and not the host's
	for _, n := range s.Linux.Namespaces {
		if seen[n.Type] {
			return invalid("linux.namespaces: %s is there twice", n.Type)
		}
		seen[n.Type], own[n.Type] = true, true
		if n.Path != "" {
			if !filepath.IsAbs(n.Path) {
				return invalid("linux.namespaces: %s: %q is not absolute", n.Type, n.Path)
			}
			if hosts(n) {
				// Named by a path or not at all, it is the same one.
				delete(own, n.Type)
			}
			if n.Type == specs.UserNamespace && len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0 {
				return invalid("linux.uidMappings: the user namespace has a path, and so its own")
			}
		} else if n.Type == specs.UserNamespace {
			if !mapsRoot(s.Linux.UIDMappings) || !mapsRoot(s.Linux.GIDMappings) {
				return invalid("linux.uidMappings: the container's ID 0 is not mapped, which init needs")
			}
		}
	}
	l := s.Linux
	if !own[specs.UserNamespace] && len(l.UIDMappings)+len(l.GIDMappings) > 0 {
		return invalid("linux.uidMappings: there is no user namespace")
	}
	if !own[specs.UTSNamespace] && (s.Hostname != "" || s.Domainname != "") {
		return invalid("hostname: there is no UTS namespace")
	}
	if !own[specs.MountNamespace] {
		if len(l.MaskedPaths)+len(l.ReadonlyPaths) > 0 || s.Root.Readonly {
			return invalid("linux.maskedPaths: there is no mount namespace")
		}
		if len(s.Mounts) > 0 {
			r.warn("linux.namespaces: without a mount namespace the container's mounts are the host's, and stay")
		}
	}
	if !own[specs.NetworkNamespace] && len(l.NetDevices) > 0 {
		return invalid("linux.netDevices: there is no network namespace of the container's own")
	}
	for name := range l.Sysctl {
		if err := checkSysctl(name, own); err != nil {
			return err
		}
	}
	return nil
}

// hosts reports whether a namespace is the one that we are in.
func hosts(n specs.LinuxNamespace) bool {
	name := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts"}[n.Type]
	if name == "" {
		return false
	}
	ours, err1 := os.Stat("/proc/self/ns/" + name)
	its, err2 := os.Stat(n.Path)
	return err1 == nil && err2 == nil && os.SameFile(ours, its)
}

func mapsRoot(m []specs.LinuxIDMapping) bool {
	for _, e := range m {
		if e.ContainerID == 0 && e.Size > 0 {
			return true
		}
	}
	return false
}

// ipcSysctls are those below kernel that belong to an ipc namespace,
// ipc_namespaces(7).
var ipcSysctls = map[string]bool{
	"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true, "kernel.shmall": true,
	"kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
	"kernel.auto_msgmni": true, "kernel.msg_next_id": true, "kernel.sem_next_id": true, "kernel.shm_next_id": true,
}

// checkSysctl lets only those be set that are a namespace's of the
// container's own: the others are the host's.
func checkSysctl(name string, own map[specs.LinuxNamespaceType]bool) error {
	dotted := strings.ReplaceAll(name, "/", ".")
	var needs specs.LinuxNamespaceType
	switch {
	case strings.Contains(name, ".."):
	case ipcSysctls[dotted], strings.HasPrefix(dotted, "fs.mqueue."):
		needs = specs.IPCNamespace
	case strings.HasPrefix(dotted, "net."):
		needs = specs.NetworkNamespace
	case dotted == "kernel.domainname", dotted == "kernel.hostname":
		needs = specs.UTSNamespace
	}
	if needs == "" || !own[needs] {
		return invalid("linux.sysctl: %s is not in a namespace of the container's own", name)
	}
	return nil
}
