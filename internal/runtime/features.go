package runtime

import (
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/seccomp"
)

// Features tells what this runtime knows, runtime-spec features.md.
func Features() features.Features {
	yes, no := true, false
	f := features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions:  native.MountOptions(),
		// Who hands on annotations of others than the administrator is told so.
		PotentiallyUnsafeConfigAnnotations: []string{cove.KeepGroups},
		Annotations:                        map[string]string{"org.opencontainers.runtime.cove.version": cove.Version},
		Linux: &features.Linux{
			Namespaces:   native.Namespaces(),
			Capabilities: capability.Names(),
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &no, Rdma: &yes},
			Seccomp: &features.Seccomp{
				Enabled: &yes, Archs: words(seccomp.Architectures()), Operators: words(seccomp.Operators()),
				Actions: words(seccomp.Actions()), KnownFlags: words(seccomp.Flags()), SupportedFlags: words(seccomp.Flags()),
			},
			Apparmor:        &features.Apparmor{Enabled: &yes},
			Selinux:         &features.Selinux{Enabled: &yes},
			IntelRdt:        &features.IntelRdt{Enabled: &no},
			NetDevices:      &features.NetDevices{Enabled: &yes},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			MemoryPolicy: &features.MemoryPolicy{
				Modes: words(slices.Sorted(maps.Keys(native.MemoryModes))), Flags: words(slices.Sorted(maps.Keys(native.MemoryFlags))),
			},
		},
	}
	return f
}

func words[T ~string](from []T) []string {
	var all []string
	for _, w := range from {
		all = append(all, string(w))
	}
	return all
}
