package engine

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/spec"
)

// lastMade is what of a container's directory is made last: overlay's work.
const lastMade = "work"

// makeDir makes the container's directory and what belongs into it. All of
// it can be made again at any time but the writable layer's content.
func (e *Engine) makeDir(c *cove.Container) error {
	dir := e.dir(c.ID)
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{{"", 0o700}, {"diff", 0o755}, {lastMade, 0o700}} {
		err := os.Mkdir(filepath.Join(dir, d.name), d.mode)
		if err != nil && ownplace.Dangling(dir) {
			return cove.E("make container directory", c.Name, cove.Invalid, fmt.Errorf("%s: %w", dir, ownplace.ErrDangling))
		}
		if err != nil && !os.IsExist(err) {
			return cove.E("make container directory", c.Name, fileKind(err), err)
		}
	}
	if logs := e.conf.File.Containers.LogPath; logs != "" && c.Spec.LogPath == filepath.Join(logs, c.ID, "ctr.log") {
		if err := os.MkdirAll(filepath.Dir(c.Spec.LogPath), 0o700); err != nil {
			return cove.E("make log directory of container", c.Name, fileKind(err), err)
		}
	}
	return nil
}

// files are the paths of what is shown in the container's /etc and elsewhere.
func (e *Engine) files(c *cove.Container) spec.Files {
	in := func(name string) string { return filepath.Join(e.dir(c.ID), name) }
	f := spec.Files{Hosts: in("hosts"), ResolvConf: in("resolv.conf"), Hostname: in("hostname"), ContainerEnv: in("containerenv")}
	if other, ok := strings.CutPrefix(c.Spec.Network, "container:"); ok {
		// Both see the same network.
		f.Hosts, f.ResolvConf = filepath.Join(e.dir(other), "hosts"), filepath.Join(e.dir(other), "resolv.conf")
	}
	if tz := cmp.Or(c.Spec.Timezone, e.configuredFor(c).Timezone); tz != "" && tz != "local" {
		f.Localtime = filepath.Join("/usr/share/zoneinfo", filepath.Clean("/"+tz))
	} else if tz == "local" {
		f.Localtime = "/etc/localtime"
	}
	return f
}

// writeFiles fills the container's own files, anew at each start.
func (e *Engine) writeFiles(c *cove.Container, hostname string, networks []cove.Network) error {
	mode, _, _ := strings.Cut(e.networkMode(c), ":")
	content := map[string]string{
		"hostname":     hostname + "\n",
		"containerenv": containerEnv(c, e.conf.Rootless),
	}
	if mode != "container" {
		hosts, err := e.hosts(c, mode, hostname)
		if err != nil {
			return err
		}
		content["hosts"], content["resolv.conf"] = hosts, e.resolvConf(c, mode, networks)
	}
	for name, text := range content {
		name = filepath.Join(e.dir(c.ID), name)
		err := replaceFile(name, text)
		if err == nil {
			err = labelFile(name, mountLabel(c))
		}
		if err != nil {
			return cove.E("write files of container", c.Name, fileKind(err), err)
		}
	}
	if other, ok := strings.CutPrefix(c.Spec.Network, "container:"); ok {
		if err := e.labelJoined(c, other); err != nil {
			return cove.E("label files of container", other, fileKind(err), err)
		}
	}
	return nil
}

// replaceFile writes a file of the container's that root in the container may
// have replaced by anything through its bind mount's directory: never through
// a link.
func replaceFile(name, content string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteString(content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// hosts is the content of /etc/hosts: what was asked, what base_hosts_file says,
// and names that neither has.
func (e *Engine) hosts(c *cove.Container, mode, hostname string) (string, error) {
	var h hostsFile
	for _, entry := range c.Spec.AddHosts {
		// name:ip, where ip may hold colons; several names by ";".
		names, ip, ok := strings.Cut(entry, ":")
		if !ok {
			return "", cove.E("", "", cove.Invalid, fmt.Errorf("invalid host entry %q: must be name:ip", entry))
		}
		if ip == "host-gateway" {
			if ip = e.hostGateway(c, mode); ip == "" {
				return "", cove.E("", "", cove.Invalid, fmt.Errorf("host entry %q: this network has no host-gateway", entry))
			}
		}
		ip = strings.Trim(ip, "[]")
		if net.ParseIP(ip) == nil {
			return "", cove.E("", "", cove.Invalid, fmt.Errorf("invalid IP address %q in host entry %q", ip, entry))
		}
		for name := range strings.SplitSeq(names, ";") {
			h.add(ip, name)
		}
	}
	base, err := e.baseHosts(c)
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(base, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 1 {
			h.add(fields[0], fields[1:]...)
		}
	}
	given := slices.Clone(h.names)
	more := func(ip string, names ...string) {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "" || slices.Contains(given, n) })
		if ip != "" && len(names) > 0 {
			h.add(ip, names...)
		}
	}
	more("127.0.0.1", "localhost")
	more("::1", "localhost")
	more(e.hostGateway(c, mode), "host.containers.internal", "host.docker.internal")
	own := []string{hostname}
	if c.Name != hostname {
		own = append(own, c.Name)
	}
	switch {
	case mode == "none":
		more("127.0.0.1", own...)
	case byProgram(mode):
		more(userAddress(mode), own...)
	}
	for _, a := range c.Attachments {
		for _, p := range a.Addresses {
			more(p.Addr().String(), slices.Clone(own)...)
		}
	}
	return h.text.String(), nil
}

// hostsFile is a hosts(5) file in the making.
type hostsFile struct {
	text  strings.Builder
	names []string
}

func (h *hostsFile) add(ip string, names ...string) {
	h.text.WriteString(ip + "\t" + strings.Join(names, " ") + "\n")
	h.names = append(h.names, names...)
}

// maxHosts bounds what is read of a base for /etc/hosts, in bytes.
const maxHosts = 1 << 20

// baseHosts is what the container's /etc/hosts begins with: the host's own,
// unless --hosts-file or base_hosts_file says otherwise.
func (e *Engine) baseHosts(c *cove.Container) (string, error) {
	name := cmp.Or(c.Spec.HostsFile, e.conf.File.Containers.BaseHostsFile)
	switch name {
	case "none":
		return "", nil
	case "image":
		root, err := rootfs.Open(e.imageRoot(c))
		if err != nil {
			return "", cove.E("read hosts of image", c.Image.Name, fileKind(err), err)
		}
		defer unix.Close(root)
		text, err := rootfs.ReadFile(root, "/etc/hosts", maxHosts)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", cove.E("read hosts of image", c.Image.Name, fileKind(err), err)
		}
		return string(text), nil
	case "":
		text, err := procfs.Read("/etc/hosts", maxHosts)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", cove.E("read", "/etc/hosts", fileKind(err), err)
		}
		return string(text), nil
	}
	if !filepath.IsAbs(name) {
		return "", cove.E("read containers.conf", "base_hosts_file", cove.Invalid, fmt.Errorf("%q is neither image, none nor an absolute path", name))
	}
	text, err := procfs.Read(name, maxHosts)
	if err != nil {
		return "", cove.E("read", name, fileKind(err), err)
	}
	return string(text), nil
}

// hostGateway is where the container reaches its host; "" where it has no name
// for it.
func (e *Engine) hostGateway(c *cove.Container, mode string) string {
	switch ip := e.conf.File.Containers.HostContainersInternalIP; ip {
	case "":
	case "none":
		return ""
	default:
		return ip
	}
	if mode == "host" {
		return "127.0.0.1"
	}
	if u, err := e.connection(c); err == nil && u != nil {
		return userHost(u)
	}
	for _, a := range c.Attachments {
		for _, gw := range a.Gateways {
			return gw.String()
		}
	}
	return ""
}

// resolvConf is the content of /etc/resolv.conf.
func (e *Engine) resolvConf(c *cove.Container, mode string, networks []cove.Network) string {
	conf := e.conf.File.Containers
	servers, search, options := hostResolver()
	if mode != "host" {
		// What listens on the host's loopback cannot be reached from inside.
		servers = slices.DeleteFunc(servers, func(s string) bool {
			ip, err := netip.ParseAddr(s)
			return err == nil && ip.IsLoopback()
		})
	}
	if u, err := e.connection(c); err == nil && u != nil {
		servers = append([]string{userResolver(u)}, servers...)
	}
	if v := conf.DNSServers.Get(); len(v) > 0 {
		servers = v
	}
	if v := conf.DNSSearches.Get(); len(v) > 0 {
		search = v
	}
	if v := conf.DNSOptions.Get(); len(v) > 0 {
		options = v
	}
	if len(c.Spec.DNS) > 0 {
		servers = c.Spec.DNS
	}
	if slices.ContainsFunc(networks, func(n cove.Network) bool { return n.DNSEnabled }) {
		servers = []string{resolverAddress}
		if len(c.Spec.DNSSearch) == 0 {
			search = append([]string{"dns.podman"}, search...)
		}
	}
	if len(c.Spec.DNSSearch) > 0 {
		search = c.Spec.DNSSearch
	}
	if len(c.Spec.DNSOptions) > 0 {
		options = c.Spec.DNSOptions
	}
	var b strings.Builder
	if len(search) > 0 && !(len(search) == 1 && search[0] == ".") {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String()
}

// resolverAddress is where a container's monitor answers for names.
const resolverAddress = "127.0.0.11"

// upstream are the servers that the container's resolver asks.
func (e *Engine) upstream(c *cove.Container) []string {
	if len(c.Spec.DNS) > 0 {
		return c.Spec.DNS
	}
	if v := e.conf.File.Containers.DNSServers.Get(); len(v) > 0 {
		return v
	}
	servers, _, _ := hostResolver()
	if u, err := e.connection(c); err == nil && u != nil {
		servers = append([]string{userResolver(u)}, servers...)
	}
	return servers
}

// hostResolver reads the host's resolv.conf(5). systemd-resolved's stub is
// replaced by what is behind it.
func hostResolver() (servers, search, options []string) {
	for _, name := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		servers, search, options = nil, nil, nil
		s := bufio.NewScanner(f)
		for s.Scan() {
			fields := strings.Fields(s.Text())
			if len(fields) < 2 {
				continue
			}
			switch fields[0] {
			case "nameserver":
				servers = append(servers, fields[1])
			case "search", "domain":
				search = fields[1:]
			case "options":
				options = append(options, fields[1:]...)
			}
		}
		_ = f.Close()
		if !(len(servers) == 1 && servers[0] == "127.0.0.53") {
			return servers, search, options
		}
	}
	return servers, search, options
}

// containerEnv is /run/.containerenv, by which programs know that they are in
// a container. Of which, and of what engine's, it tells a privileged one alone.
func containerEnv(c *cove.Container, rootless bool) string {
	if !c.Spec.Privileged {
		return ""
	}
	r := 0
	if rootless {
		r = 1
	}
	return fmt.Sprintf("engine=\"cove-%s\"\nname=%q\nid=%q\nimage=%q\nimageid=%q\nrootless=%d\n", cove.Version, c.Name, c.ID, c.Image.Name, c.Image.ID, r)
}

func (e *Engine) logPath(c *cove.Container) string {
	switch {
	case e.logDriver(c) == "none", e.logDriver(c) == "journald", passthrough(e.logDriver(c)):
		return ""
	case c.Spec.LogPath != "":
		return c.Spec.LogPath
	}
	return filepath.Join(e.dir(c.ID), "ctr.log")
}

func (e *Engine) logDriver(c *cove.Container) string {
	driver := c.Spec.LogDriver
	if driver == "" {
		driver = e.conf.File.Containers.LogDriver
	}
	switch driver {
	case "json-file", "none", "journald", "passthrough", "passthrough-tty":
		return driver
	}
	return "k8s-file"
}
