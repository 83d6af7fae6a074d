package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// An OCI runtime says what it has (runtime-spec, features.md). It is asked once
// for each of its binaries.

// asked is what a binary has answered, as it is kept below the run root.
type asked struct {
	Path     string             `json:"path"`
	Modified time.Time          `json:"modified"`
	Size     int64              `json:"size"`
	Features *features.Features `json:"features"` // nil: it does not know the command
}

// askPatience is how long a runtime may take to answer a command.
const askPatience = 10 * time.Second

// askProgram runs a command of a runtime, or of conmon, that the engine waits for itself, and gives
// its output. When that takes too long, ctx ends, or this process does, it is
// killed; with what it has started, where there is still somebody to do so.
func askProgram(ctx context.Context, program string, args ...string) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	cmd := exec.CommandContext(within, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.WaitDelay = &out, time.Second
	// The signal comes when the thread ends that has started it, prctl(2).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case within.Err() != nil:
		return nil, cove.E("", "", cove.Unavailable, fmt.Errorf("%s %s: it has not ended after %s and was killed", program, strings.Join(args, " "), askPatience))
	}
	return out.Bytes(), err
}

// features gives what a runtime says that it has, nil when it does not say.
func (e *Engine) features(ctx context.Context, program string) (*features.Features, error) {
	info, err := os.Stat(program)
	if err != nil {
		return nil, cove.E("look at OCI runtime", program, fileKind(err), err)
	}
	sum := sha256.Sum256([]byte(program))
	kept := filepath.Join(e.featuresDir(), hex.EncodeToString(sum[:8])+".json")
	var a asked
	if data, err := readOwn(kept); err == nil && json.Unmarshal(data, &a) == nil &&
		a.Path == program && a.Size == info.Size() && a.Modified.Equal(info.ModTime()) {
		return a.Features, nil
	}
	a = asked{Path: program, Modified: info.ModTime(), Size: info.Size()}
	if a.Features, err = askFeatures(ctx, program); err != nil {
		return nil, err
	}
	// If it cannot be kept, it is asked again.
	if data, err := json.Marshal(a); err == nil && os.MkdirAll(filepath.Dir(kept), 0o700) == nil {
		_ = replaceFile(kept, string(data))
	}
	return a.Features, nil
}

func askFeatures(ctx context.Context, program string) (*features.Features, error) {
	out, err := askProgram(ctx, program, "features")
	if cove.Is(err, cove.Unavailable) || ctx.Err() != nil {
		return nil, err
	}
	f := new(features.Features)
	if err != nil || json.Unmarshal(out, f) != nil || f.OCIVersionMax == "" {
		return nil, nil
	}
	return f, nil
}

// checkFeatures refuses by name what of the configuration the runtime lacks.
func (l *launch) checkFeatures(ctx context.Context) error {
	f, err := l.e.features(ctx, l.foreign.Runtime[0])
	if err != nil {
		return err
	}
	lacking := l.knownLack()
	if lacking == "" && f != nil {
		lacking = lack(f, l.spec, !l.layout.Unified)
	}
	if lacking == "" {
		return nil
	}
	return cove.E("", "", cove.Unsupported, fmt.Errorf("OCI runtime %s does not support %s", l.c.Spec.Runtime, lacking))
}

// lack names the first field of the configuration that a runtime does not say it
// has; "" when there is none. What it says nothing of is left to it.
func lack(f *features.Features, s *specs.Spec, v1 bool) string {
	for kind, hooks := range hooksOf(s.Hooks) {
		if f.Hooks != nil && len(hooks) > 0 && !slices.Contains(f.Hooks, kind) {
			return "hooks." + kind
		}
	}
	if _, runc := f.Annotations["org.opencontainers.runc.version"]; runc && s.Annotations[cove.KeepGroups] == "1" {
		return "keeping the caller's groups"
	}
	has := f.Linux
	if has == nil {
		return ""
	}
	no := func(on *bool) bool { return on != nil && !*on }
	for _, ns := range s.Linux.Namespaces {
		if has.Namespaces != nil && !slices.Contains(has.Namespaces, string(ns.Type)) {
			return "linux.namespaces: " + string(ns.Type)
		}
	}
	if caps := s.Process.Capabilities; caps != nil && has.Capabilities != nil {
		for _, c := range caps.Bounding {
			if !slices.Contains(has.Capabilities, c) {
				return "process.capabilities: " + c
			}
		}
	}
	if c := has.Cgroup; c != nil && (v1 && no(c.V1) || !v1 && no(c.V2)) {
		return "this machine's version of cgroups"
	}
	if a := has.Apparmor; a != nil && no(a.Enabled) && s.Process.ApparmorProfile != "" {
		return "process.apparmorProfile"
	}
	if x := has.Selinux; x != nil && no(x.Enabled) && s.Process.SelinuxLabel != "" {
		return "process.selinuxLabel"
	}
	return lackSeccomp(has.Seccomp, s.Linux.Seccomp)
}

func lackSeccomp(has *features.Seccomp, asked *specs.LinuxSeccomp) string {
	if has == nil || asked == nil {
		return ""
	}
	if has.Enabled != nil && !*has.Enabled {
		return "linux.seccomp"
	}
	actions := []specs.LinuxSeccompAction{asked.DefaultAction}
	for _, c := range asked.Syscalls {
		actions = append(actions, c.Action)
	}
	for _, a := range actions {
		if has.Actions != nil && !slices.Contains(has.Actions, string(a)) {
			return "linux.seccomp: " + string(a)
		}
	}
	return ""
}

func hooksOf(h *specs.Hooks) map[string][]specs.Hook {
	if h == nil {
		return nil
	}
	return map[string][]specs.Hook{
		//lint:ignore SA1019 engines still use it
		"prestart":      h.Prestart,
		"createRuntime": h.CreateRuntime, "createContainer": h.CreateContainer, "startContainer": h.StartContainer,
		"poststart": h.Poststart, "poststop": h.Poststop,
	}
}

// ownKernel tells whether a runtime's containers run on a kernel that is not the
// host's.
func ownKernel(program string) bool {
	name := path.Base(program)
	return name == "runsc" || strings.HasPrefix(name, "kata")
}

// keptFromHost says that something of a container cannot be had: the process that
// its runtime has given is one of the host's, and what it has is the host's.
func keptFromHost(c *cove.Container, what string) error {
	return cove.E("", "", cove.Unsupported, fmt.Errorf("cannot get at the %s of container %s: OCI runtime %s keeps them from the host", what, c.Name, c.Spec.Runtime))
}

// inOurs tells whether a process is in our namespace of a kind.
func inOurs(pid int, kind string) bool {
	its, err1 := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	ours, err2 := os.Stat("/proc/self/ns/" + kind)
	return err1 == nil && err2 == nil && os.SameFile(its, ours)
}

// knownLack is lack for what runtimes do not say by themselves. A virtual machine,
// or a kernel of its own, shares no processes and no IPC with the host, nor with
// containers that have been made elsewhere.
func (l *launch) knownLack() string {
	program := l.foreign.Runtime[0]
	if !ownKernel(program) {
		return ""
	}
	kinds := []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace}
	gvisor := path.Base(program) == "runsc"
	if !gvisor {
		kinds = append(kinds, specs.NetworkNamespace)
	}
	for _, kind := range kinds {
		i := slices.IndexFunc(l.spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
		if i < 0 {
			return fmt.Sprintf("the host's %s namespace", kind)
		}
		if kind != specs.NetworkNamespace && l.spec.Linux.Namespaces[i].Path != "" {
			return fmt.Sprintf("another container's %s namespace", kind)
		}
	}
	// gVisor passes over these without a word. That of an image or of the
	// default is no weaker for it: its own kernel is between.
	filters := slices.ContainsFunc(l.foreign.Runtime, func(arg string) bool { return arg == "--oci-seccomp" || arg == "--oci-seccomp=true" })
	switch {
	case !gvisor:
	case len(l.c.Spec.Sysctl) > 0:
		return "linux.sysctl"
	case len(l.c.Spec.Devices) > 0:
		return "linux.devices"
	case l.extra.Seccomp != "" && l.extra.Seccomp != "unconfined" && !filters:
		return "linux.seccomp without its flag oci-seccomp"
	}
	return ""
}

// canCheckpoint tells whether a runtime has checkpoints: by what it says, else
// by having the command, as podman asks.
func (e *Engine) canCheckpoint(ctx context.Context, program string) (bool, error) {
	f, err := e.features(ctx, program)
	if err != nil {
		return false, err
	}
	if f != nil {
		for _, key := range []string{"org.opencontainers.runc.checkpoint.enabled", "run.oci.crun.checkpoint.enabled"} {
			if says, ok := f.Annotations[key]; ok {
				return says == "true", nil
			}
		}
	}
	_, err = askProgram(ctx, program, "checkpoint", "--help")
	if cove.Is(err, cove.Unavailable) || ctx.Err() != nil {
		return false, err
	}
	return err == nil, nil
}

// featuresDir has what runtimes have said.
func (e *Engine) featuresDir() string { return filepath.Join(e.conf.Scratch(), "runtimes") }
