// Package spec turns a container's record into an OCI runtime spec: what was
// asked, the image's configuration, what was configured for it and facts
// about the host go in, one [specs.Spec] comes out. It is pure: it reads no
// file, asks no kernel and starts nothing. Every fact of the host is a field or
// a function of [Host], so that the same input gives the same spec anywhere.
//
// The answers are podman 5's, docker's where podman has no opinion, and never
// wider than the default container of either.
//
// What the OCI spec has no field for comes back as [Extra]: the user by name,
// directories to make, sources to chown or relabel, the seccomp profile that was
// asked. The caller must carry out all of it; a spec whose Extra was ignored
// is not the container that was asked for.
package spec

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

// Extra is what a container needs beside its OCI spec.
type Extra struct {
	// User is user[:group] as asked or as the image says, "" for root. Names
	// are resolved by init in the container's own /etc/passwd and /etc/group;
	// without a group, root included, so are the primary group and the
	// supplementary ones.
	User string
	// Groups are supplementary groups, names or numbers, resolved likewise.
	Groups []string
	// Passwd and Group are lines for the container's own files of that name,
	// where these lack them.
	Passwd, Group []Account `json:",omitempty"`
	// CreateWorkDir says that a missing working directory is made, owned by
	// the user: so for the image's, never for one given with --workdir.
	CreateWorkDir bool
	// Hostname is the name seen inside, also where the UTS namespace is
	// shared; for HOSTNAME and the hosts file.
	Hostname string
	// Seccomp is "" for the built-in default profile, "unconfined", or the
	// path of a profile.
	Seccomp string
	// CDI are the names of devices whose edits are to be made to the spec.
	CDI []string
	// Mounts are works to be done on sources before the mounts are made.
	Mounts []MountWork
}

// MountWork is what has to be done with one mount's source before the start.
type MountWork struct {
	Destination string
	Source      string // host path
	Volume      string // the volume's name, "" for a bind mount
	Chown       bool   // give the source to the container's user (option U)
	Relabel     string // "z" shared, "Z" private, "" leave the SELinux label
	NoCopy      bool   // do not fill an empty volume from the image
	// Upper and Work are directories to make, owned by the container's root,
	// for an overlay over Source (option O). Remade empty at each start when
	// Temporary.
	Upper, Work string
	Temporary   bool
}

// Account is a line of passwd(5) or group(5), for a file that has neither ID
// nor, unless it is empty, Name. $GID in it is the process's group.
type Account struct {
	Name string
	ID   uint32
	Line string
}

// builder carries one Make from step to step.
type builder struct {
	c     *cove.Container
	in    *cove.ContainerSpec
	conf  cove.Configured
	host  *Host
	modes modes
	// userNS is true when the container has a user namespace of its own.
	userNS   bool
	readOnly bool
	taken    map[string]bool // destinations of users' mounts
	out      *specs.Spec
	extra    *Extra
	warnings []string
}

// Make gives the OCI runtime spec of c's next run, what must be done beside it,
// and warnings for the user, one line each. Errors are of kind Invalid for what
// was asked wrongly, Unsupported for what cove or this host cannot do.
func Make(c *cove.Container, host Host) (*specs.Spec, *Extra, []string, error) {
	b := &builder{
		c: c, in: &c.Spec, conf: c.Defaults(), host: &host,
		readOnly: c.Spec.ReadOnly,
		taken:    map[string]bool{},
		extra:    &Extra{},
		out: &specs.Spec{
			Version:     specs.Version,
			Process:     &specs.Process{},
			Root:        &specs.Root{Path: host.RootPath},
			Linux:       &specs.Linux{Resources: &specs.LinuxResources{}, CgroupsPath: host.CgroupsPath},
			Annotations: map[string]string{},
		},
	}
	b.out.Root.Readonly = b.readOnly
	steps := []func() error{
		b.namespaces, b.systemd, b.hostname, b.user, b.process, b.environment, b.capabilities,
		b.security, b.rlimits, b.devices, b.mounts, b.accounts, b.kernelPaths,
		b.sysctls, b.resources, b.annotations,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, nil, nil, err
		}
	}
	return b.out, b.extra, b.warnings, nil
}

func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

// invalid and unsupported leave operation and object to the caller, who knows
// which verb was at work on which container.
func invalid(format string, args ...any) error {
	return cove.E("", "", cove.Invalid, fmt.Errorf(format, args...))
}

func unsupported(format string, args ...any) error {
	return cove.E("", "", cove.Unsupported, fmt.Errorf(format, args...))
}

var errNoPath = errors.New("no path")

// environment is the record's; HOME is left to init.
func (b *builder) environment() (err error) {
	b.out.Process.Env, err = b.c.Environment(b.extra.Hostname, true)
	return err
}

// cleanAbs gives p cleaned when it is absolute and without NUL.
func cleanAbs(p string) (string, error) {
	if !path.IsAbs(p) || strings.ContainsRune(p, 0) {
		return "", errNoPath
	}
	return path.Clean(p), nil
}
