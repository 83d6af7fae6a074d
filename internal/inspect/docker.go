package inspect

import "strings"

// Docker's names of what podman has under others: templates understand them, JSON
// has podman's alone.

// LogPath is the file of the container's log.
func (d *ContainerData) LogPath() string { return d.HostConfig.LogConfig.Path }

// Arch is the architecture cove was built for.
func (v *Version) Arch() string {
	_, arch, _ := strings.Cut(v.OsArch, "/")
	return arch
}

// ServerVersion and the following are what `docker info` has at its top.
func (i *Info) ServerVersion() string { return i.Version.Version }
func (i *Info) Driver() string        { return i.Store.GraphDriverName }
func (i *Info) DockerRootDir() string { return i.Store.GraphRoot }
func (i *Info) LoggingDriver() string { return i.Host.LogDriver }
func (i *Info) CgroupDriver() string  { return i.Host.CgroupManager }
func (i *Info) CgroupVersion() string { return strings.TrimPrefix(i.Host.CgroupsVersion, "v") }
func (i *Info) KernelVersion() string { return i.Host.Kernel }
func (i *Info) OSType() string        { return i.Host.OS }
func (i *Info) NCPU() int             { return i.Host.CPUs }
func (i *Info) MemTotal() int64       { return i.Host.MemTotal }
func (i *Info) Name() string          { return i.Host.Hostname }
func (i *Info) Containers() int       { return i.Store.ContainerStore.Number }
func (i *Info) Images() int           { return i.Store.ImageStore.Number }
