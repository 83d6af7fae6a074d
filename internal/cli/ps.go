package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/inspect"
)

type psOptions struct {
	*app
	all, latest, noTrunc, noHeading, ns, pod, quiet, size, sync bool
	filters                                                     []string
	format                                                      string
	last                                                        int
	sort                                                        choice
	watch                                                       uint
}

// choice is a flag with a fixed set of values.
type choice struct {
	value   string
	choices []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "choice" }
func (c *choice) Set(v string) error {
	if !slices.Contains(c.choices, v) {
		return fmt.Errorf("%q is not a valid value.  Choose from: %q", v, strings.Join(c.choices, ", "))
	}
	c.value = v
	return nil
}

func psCommand(a *app) *cobra.Command {
	o := &psOptions{app: a}
	c := &cobra.Command{
		Use: "ps [options]",
		Long: `Prints out information about the containers

Exit codes:
  125  the containers could not be listed`,
		Example: `  cove ps -a
  cove ps -a --format "{{.ID}}  {{.Image}}  {{.Labels}}  {{.Mounts}}"
  cove ps --size --sort names`,
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.Flags()) },
	}
	o.flags(c.Flags())
	return c
}

func (o *psOptions) flags(fs *pflag.FlagSet) {
	o.sort.choices = []string{"command", "created", "id", "image", "names", "runningfor", "size", "status"}
	fs.BoolVarP(&o.all, "all", "a", false, "Show all the containers, default is only running containers")
	arrayVar(fs, &o.filters, "filter", "f", "Filter output based on conditions given")
	fs.StringVar(&o.format, "format", "", "Pretty-print containers to JSON or using a Go template")
	fs.IntVarP(&o.last, "last", "n", -1, "Print the n last created containers (all states)")
	fs.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest container cove is aware of")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Display the extended information")
	fs.BoolVar(&o.noHeading, "noheading", false, "Do not print headers")
	fs.BoolVar(&o.ns, "ns", false, "Display namespace information")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Print the numeric IDs of the containers only")
	fs.BoolVarP(&o.size, "size", "s", false, "Display the total file sizes")
	fs.Var(&o.sort, "sort", "Sort output by: "+strings.Join(o.sort.choices, ", "))
	fs.BoolVar(&o.sync, "sync", false, "Sync container state with OCI runtime (cove always does)")
	fs.UintVarP(&o.watch, "watch", "w", 0, "Watch the ps output on an interval in seconds")
	fs.BoolVarP(&o.pod, "pod", "p", false, "Print the ID and name of the pods that containers are in (cove has none yet)")
	refuse(fs, []unsupported{{name: "external", bool: true, accept: []string{"false"}}})
	fs.SetNormalizeFunc(oldNames)
}

func (o *psOptions) run(ctx context.Context, fs *pflag.FlagSet) error {
	switch {
	case o.last >= 0 && o.latest:
		return errors.New("last and latest are mutually exclusive")
	case o.quiet && (o.size || o.ns):
		return errors.New("quiet conflicts with size and namespace")
	case o.size && o.ns:
		return errors.New("size and namespace options conflict")
	case o.watch > 0 && o.latest:
		return errors.New("the watch and latest flags cannot be used together")
	}
	filters, err := splitFilters(o.filters)
	if err != nil {
		return err
	}
	lo := engine.ListOptions{
		All:     o.all || o.last > 0 || o.latest || len(filters["status"]) > 0,
		Last:    max(o.last, 0),
		Latest:  o.latest,
		Filters: filters,
		Size:    o.wantsSize(),
		Settle:  true,
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	for {
		list, err := e.List(ctx, lo)
		if err != nil {
			return err
		}
		if o.watch > 0 && o.outTerminal() != nil {
			fmt.Fprint(o.Out, "\x1b[2J\x1b[H")
		}
		if err := o.show(list, time.Now()); err != nil || o.watch == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(o.watch) * time.Second):
		}
	}
}

// wantsSize reports whether sizes, which cost a walk over each layer, are
// shown or sorted by.
func (o *psOptions) wantsSize() bool {
	return o.size || o.sort.value == "size" || strings.Contains(o.format, ".Size")
}

// show prints one listing as of now.
func (o *psOptions) show(list []engine.Container, now time.Time) error {
	ns := o.ns || strings.Contains(o.format, "Namespaces") || strings.Contains(o.format, "NS") ||
		strings.Contains(o.format, "NET") || strings.Contains(o.format, "MNT") || strings.Contains(o.format, "IPC")
	rows := make([]psRow, len(list))
	for i, c := range list {
		rows[i] = newPsRow(c, now, o.noTrunc, o.wantsSize())
		if c.Unread != nil {
			o.warn(c.Unread.Error())
		}
		if ns && running(c) {
			rows[i].Namespaces = namespacesOf(c.Run.PID)
		}
	}
	sortRows(rows, o.sort.value)
	if isJSON(o.format) {
		out := make([]psJSON, len(rows))
		for i, r := range rows {
			out[i] = r.json(r.ListContainer.Created.Unix())
		}
		return o.printJSONIndent(out, "  ")
	}
	if o.quiet && o.format == "" {
		for _, r := range rows {
			fmt.Fprintln(o.Out, r.ID())
		}
		return nil
	}
	return listing{
		columns: o.columns(), headers: psHeaders(), format: o.format, noHeading: o.noHeading,
	}.print(o.Out, anys(rows))
}

// columns is the default row.
func (o *psOptions) columns() string {
	if o.ns {
		return "{{.ID}}\t{{.Names}}\t{{.Pid}}\t{{.Cgroup}}\t{{.IPC}}\t{{.MNT}}\t{{.NET}}\t{{.PIDNS}}\t{{.User}}\t{{.UTS}}"
	}
	row := "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.CreatedHuman}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
	if o.pod {
		row += "\t{{.Pod}}\t{{.PodName}}"
	}
	if o.size {
		row += "\t{{.Size}}"
	}
	return row
}

func psHeaders() map[string]string {
	return map[string]string{
		"Cgroup": "cgroupns", "CreatedHuman": "created", "ID": "container id", "PIDNS": "pidns",
		"USERNS": "userns", "Pod": "pod id", "PodName": "podname", "RunningFor": "running for", "User": "userns",
		"ImageID": "image id", "CreatedAt": "created at", "StartedAt": "started at", "ExitedAt": "exited at", "ExitCode": "exit code",
	}
}

// ListContainer is a container as ps shows it, in podman's JSON shape and
// under podman's name: templates may say {{.ListContainer.Mounts}}.
type ListContainer struct {
	AutoRemove   bool
	Command      []string
	CIDFile      string
	Created      time.Time `json:"-"`
	Exited       bool
	ExitedAt     int64
	ExitCode     int
	ExposedPorts map[uint16][]string
	ID           string `json:"Id"`
	Image        string
	ImageID      string
	IsInfra      bool
	Labels       map[string]string
	Mounts       []string
	Names        []string
	Namespaces   psNamespaces
	Networks     []string
	Pid          int
	Pod          string
	PodName      string
	Ports        []cove.PortMapping
	Restarts     uint
	Size         *psSize
	StartedAt    int64
	State        string
	Health       string `json:"-"`
}

// psNamespaces are the inode numbers of a running container's namespaces.
type psNamespaces struct {
	Cgroup string `json:",omitempty"`
	IPC    string `json:",omitempty"`
	MNT    string `json:",omitempty"`
	NET    string `json:",omitempty"`
	PIDNS  string `json:",omitempty"`
	User   string `json:",omitempty"`
	UTS    string `json:",omitempty"`
}

type psSize struct {
	RootFsSize int64 `json:"rootFsSize"`
	RwSize     int64 `json:"rwSize"`
}

// psRow is what the templates of ps see.
type psRow struct {
	ListContainer
	now  time.Time
	full bool
}

// psJSON is a row as JSON; the time of creation is Unix seconds of --format json,
// and text of {{json .}}, as podman has it.
type psJSON struct {
	ListContainer
	Status    string
	CreatedAt string
	Created   any
}

func (r psRow) json(created any) psJSON {
	return psJSON{r.ListContainer, r.Status(), r.CreatedHuman(), created}
}

// MarshalJSON is for {{json .}}.
func (r psRow) MarshalJSON() ([]byte, error) { return json.Marshal(r.json(r.ListContainer.Created)) }

func newPsRow(c engine.Container, now time.Time, full, size bool) psRow {
	r := ListContainer{
		AutoRemove: c.Spec.Remove,
		Command:    c.Spec.Command,
		CIDFile:    c.Spec.CIDFile,
		Created:    c.Created,
		ExitedAt:   c.Run.Finished.Unix(),
		ExitCode:   c.Run.ExitCode,
		ID:         c.ID,
		Image:      cmp.Or(c.Image.Name, c.Spec.Image, c.Spec.Rootfs),
		ImageID:    c.Image.ID,
		Labels:     inspect.Labels(c.Container),
		Mounts:     []string{},
		Names:      []string{c.Name},
		Networks:   []string{},
		Ports:      c.PortMappings(),
		Restarts:   c.Run.Restarts,
		StartedAt:  c.Run.Started.Unix(),
		State:      string(c.Status),
	}
	if len(r.Command) == 0 && !c.Spec.EntrypointSet {
		r.Command = c.Image.Cmd
	}
	r.Exited = r.State == "exited"
	if running(c) {
		r.Pid, r.ExitCode = c.Run.PID, 0
	}
	if c.Run.Health != nil && running(c) {
		r.Health = c.Run.Health.Status
	}
	for _, m := range c.Mounts {
		r.Mounts = append(r.Mounts, m.Destination)
	}
	slices.Sort(r.Mounts)
	for _, at := range c.Attachments {
		r.Networks = append(r.Networks, at.Network)
	}
	if len(r.Networks) == 0 {
		for _, at := range c.Spec.Networks {
			r.Networks = append(r.Networks, at.Network)
		}
	}
	for _, e := range inspect.Exposed(c.Container) {
		port, proto, _ := strings.Cut(e, "/")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			continue
		}
		if r.ExposedPorts == nil {
			r.ExposedPorts = map[uint16][]string{}
		}
		if !slices.Contains(r.ExposedPorts[uint16(n)], proto) {
			r.ExposedPorts[uint16(n)] = append(r.ExposedPorts[uint16(n)], proto)
		}
	}
	if size {
		r.Size = &psSize{max(c.SizeRootFs, 0), max(c.SizeRw, 0)}
	}
	return psRow{r, now, full}
}

// The fields of --format that are not plain.

func (r psRow) ID() string      { return shortID(r.ListContainer.ID, r.full) }
func (r psRow) ImageID() string { return shortID(r.ListContainer.ImageID, r.full) }
func (r psRow) Names() string   { return strings.Join(r.ListContainer.Names, ",") }
func (r psRow) Networks() string {
	return strings.Join(r.ListContainer.Networks, ",")
}
func (r psRow) Restarts() string  { return strconv.FormatUint(uint64(r.ListContainer.Restarts), 10) }
func (r psRow) CreatedAt() string { return r.ListContainer.Created.String() }
func (r psRow) CreatedHuman() string {
	return ago(r.now, r.ListContainer.Created)
}
func (r psRow) RunningFor() string { return r.CreatedHuman() }
func (r psRow) Cgroup() string     { return r.Namespaces.Cgroup }
func (r psRow) CGROUPNS() string   { return r.Namespaces.Cgroup }
func (r psRow) IPC() string        { return r.Namespaces.IPC }
func (r psRow) MNT() string        { return r.Namespaces.MNT }
func (r psRow) NET() string        { return r.Namespaces.NET }
func (r psRow) PIDNS() string      { return r.Namespaces.PIDNS }
func (r psRow) USERNS() string     { return r.Namespaces.User }
func (r psRow) User() string       { return r.Namespaces.User }
func (r psRow) UTS() string        { return r.Namespaces.UTS }

// Label is one label's value.
func (r psRow) Label(name string) string { return r.Labels[name] }

// Command is the command as one text, cut to 17 bytes unless --no-trunc.
func (r psRow) Command() string {
	s := strings.Join(r.ListContainer.Command, " ")
	if !r.full && len(s) > 17 {
		s = s[:17] + "..."
	}
	return s
}

// Status is the state in words: "Up 3 seconds (healthy)".
func (r psRow) Status() string {
	var s string
	switch r.State {
	case "running":
		s = "Up " + humanDuration(r.now.Sub(time.Unix(r.StartedAt, 0)))
	case "exited":
		s = fmt.Sprintf("Exited (%d) %s ago", r.ExitCode, humanDuration(r.now.Sub(time.Unix(r.ExitedAt, 0))))
	default:
		s = title(r.State)
	}
	if r.Health != "" {
		s += " (" + r.Health + ")"
	}
	return s
}

// Size is the writable layer's size and, in brackets, that of all.
func (r psRow) Size() string {
	if r.ListContainer.Size == nil {
		return ""
	}
	return fmt.Sprintf("%s (virtual %s)", humanSize(r.ListContainer.Size.RwSize), humanSize(r.ListContainer.Size.RootFsSize))
}

// Ports are the published ports, then those only exposed.
func (r psRow) Ports() string { return portsText(r.ListContainer.Ports, r.ExposedPorts) }

// sortRows orders rows as --sort says, by creation otherwise.
func sortRows(rows []psRow, by string) {
	key := func(a, b psRow) int { return a.ListContainer.Created.Compare(b.ListContainer.Created) }
	switch by {
	case "id":
		key = func(a, b psRow) int { return cmp.Compare(a.ListContainer.ID, b.ListContainer.ID) }
	case "image":
		key = func(a, b psRow) int { return cmp.Compare(a.Image, b.Image) }
	case "names":
		key = func(a, b psRow) int { return cmp.Compare(a.Names(), b.Names()) }
	case "command":
		key = func(a, b psRow) int {
			return cmp.Compare(strings.Join(a.ListContainer.Command, " "), strings.Join(b.ListContainer.Command, " "))
		}
	case "runningfor":
		key = func(a, b psRow) int { return cmp.Compare(a.StartedAt, b.StartedAt) }
	case "status":
		key = func(a, b psRow) int { return cmp.Compare(a.State, b.State) }
	case "size":
		key = func(a, b psRow) int { return cmp.Compare(a.rootSize(), b.rootSize()) }
	}
	slices.SortStableFunc(rows, key)
}

func (r psRow) rootSize() int64 {
	if r.ListContainer.Size == nil {
		return 0
	}
	return r.ListContainer.Size.RootFsSize
}

// portsText is "0.0.0.0:80->80/tcp, 90/udp".
func portsText(ports []cove.PortMapping, exposed map[uint16][]string) string {
	var parts []string
	published := map[string]bool{}
	for _, p := range ports {
		ip := cmp.Or(p.HostIP, "0.0.0.0")
		n := max(p.Range, 1)
		for i := range n {
			published[fmt.Sprintf("%d/%s", p.ContainerPort+i, p.Protocol)] = true
		}
		if n > 1 {
			parts = append(parts, fmt.Sprintf("%s:%d-%d->%d-%d/%s", ip, p.HostPort, p.HostPort+n-1, p.ContainerPort, p.ContainerPort+n-1, p.Protocol))
		} else {
			parts = append(parts, fmt.Sprintf("%s:%d->%d/%s", ip, p.HostPort, p.ContainerPort, p.Protocol))
		}
	}
	protos := map[string][]uint16{}
	for port, list := range exposed {
		for _, proto := range list {
			if !published[fmt.Sprintf("%d/%s", port, proto)] {
				protos[proto] = append(protos[proto], port)
			}
		}
	}
	for _, proto := range slices.Sorted(maps.Keys(protos)) {
		list := protos[proto]
		slices.Sort(list)
		for i := 0; i < len(list); {
			j := i
			for j+1 < len(list) && list[j+1] == list[j]+1 {
				j++
			}
			if j > i {
				parts = append(parts, fmt.Sprintf("%d-%d/%s", list[i], list[j], proto))
			} else {
				parts = append(parts, fmt.Sprintf("%d/%s", list[i], proto))
			}
			i = j + 1
		}
	}
	return strings.Join(parts, ", ")
}

// namespacesOf reads the namespaces of a process; what cannot be read stays
// empty: it may have ended since.
func namespacesOf(pid int) psNamespaces {
	if pid <= 0 {
		return psNamespaces{}
	}
	read := func(ns string) string {
		l, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/" + ns)
		if err != nil {
			return ""
		}
		_, id, _ := strings.Cut(strings.TrimSuffix(l, "]"), "[")
		return id
	}
	return psNamespaces{read("cgroup"), read("ipc"), read("mnt"), read("net"), read("pid"), read("user"), read("uts")}
}
