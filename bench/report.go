package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// report is what -json writes.
type report struct {
	Date      time.Time         `json:"date"`
	Cores     int               `json:"cores"`
	Kernel    string            `json:"kernel"`
	Cgroup    string            `json:"cgroup"`
	Versions  map[string]string `json:"versions"`
	Runs      int               `json:"runs"`
	Short     bool              `json:"short"`
	LoadBegin string            `json:"loadBegin"` // averages of 1, 5 and 15 minutes
	LoadEnd   string            `json:"loadEnd"`
	Rows      []line            `json:"rows"`
	absent    map[string]bool   // engines that were left out from the begin
}

// line is one of the table.
type line struct {
	Name    string             `json:"name"`
	Command string             `json:"command"`
	Unit    string             `json:"unit"`
	Engines map[string]*figure `json:"engines"` // by name
}

// figure is one engine's.
type figure struct {
	Median  float64   `json:"median"`
	Samples []float64 `json:"samples,omitempty"`
	CPU     float64   `json:"cpuMs,omitempty"` // mean per run
	Note    string    `json:"note,omitempty"`
	Failure string    `json:"failure,omitempty"`
}

func (l line) figure(h *house) *figure {
	if l.Engines[h.name] == nil {
		l.Engines[h.name] = &figure{}
	}
	return l.Engines[h.name]
}

// note records failures that came before the measurement: causes of others.
func (l line) note(failed map[string]error) {
	for name, err := range failed {
		if l.Engines[name] == nil {
			l.Engines[name] = &figure{}
		}
		l.Engines[name].Failure = err.Error()
	}
}

// missing gives the engines that are left out their reason.
func (l line) missing(b *bench) {
	for _, h := range b.engines {
		if h.missing != nil {
			l.figure(h).Failure = h.missing.Error()
		}
	}
}

func newReport(b *bench) *report {
	r := &report{Date: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Runs: b.runs, Short: b.short, LoadBegin: load(), Versions: map[string]string{}, absent: map[string]bool{}}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	r.Kernel = strings.TrimSpace(string(kernel))
	v1, v2 := false, false
	for _, h := range b.engines[0].cgroups {
		v1, v2 = v1 || !h.V2, v2 || h.V2
	}
	switch {
	case v1 && v2:
		r.Cgroup = "v1, hybrid"
	case v1:
		r.Cgroup = "v1"
	default:
		r.Cgroup = "v2"
	}
	for _, h := range b.engines {
		r.Versions[h.name] = h.version
		if h.missing != nil {
			r.absent[h.name] = true
			r.Versions[h.name] = "left out: " + oneLine(h.missing.Error())
		}
	}
	r.Versions["OCI runtime"] = firstLine(ociRuntime())
	if !r.absent["docker"] {
		r.Versions["dockerd"] = firstLine("dockerd")
	}
	return r
}

// load is the load average.
func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(data))
	return strings.Join(f[:min(3, len(f))], " ")
}

func (r *report) markdown(w io.Writer) {
	short := ""
	if r.Short {
		short = ", short form"
	}
	fmt.Fprintf(w, "%s, %d cores, kernel %s, cgroup %s, load average %s at the begin, %s at the end. Medians, by turns, up to %d runs%s.\n\n",
		r.Date.Format("2006-01-02 15:04 MST"), r.Cores, r.Kernel, r.Cgroup, r.LoadBegin, r.LoadEnd, r.Runs, short)
	for _, name := range []string{"cove", "podman", "OCI runtime", "docker", "dockerd"} {
		if r.Versions[name] != "" {
			fmt.Fprintf(w, "- %s: %s\n", name, r.Versions[name])
		}
	}
	fmt.Fprint(w, "\n| what | command | unit | cove | podman | docker | podman/cove | docker/cove | cove CPU ms | podman CPU ms | docker CPU ms |\n"+
		"|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	var notes []string
	for _, l := range r.Rows {
		cells := []string{l.Name, "`" + l.Command + "`", l.Unit}
		var ratios, cpus []string
		for _, name := range []string{"cove", "podman", "docker"} {
			value, cpu, ratio := "—", "—", "—"
			if f := l.Engines[name]; f != nil {
				switch {
				case r.absent[name]:
				case f.Failure != "":
					value = "failed"
					notes = append(notes, fmt.Sprintf("%s, %s: %s", l.Command, name, oneLine(f.Failure)))
				case len(f.Samples) > 0:
					value = number(f.Median)
					if f.CPU > 0 {
						cpu = number(f.CPU)
					}
					if c := l.Engines["cove"]; c != nil && c.Failure == "" && c.Median > 0 {
						ratio = fmt.Sprintf("%.1f", f.Median/c.Median)
					}
				}
				if f.Note != "" {
					notes = append(notes, fmt.Sprintf("%s, %s: %s", l.Command, name, f.Note))
				}
			}
			cells, cpus = append(cells, value), append(cpus, cpu)
			if name != "cove" {
				ratios = append(ratios, ratio)
			}
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(append(append(cells, ratios...), cpus...), " | "))
	}
	if len(notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	fmt.Fprint(w, "\nCPU is the mean per run over every process of the engine, daemons and monitors among them, until they are quiet again; the kernel's own threads are not in it.\n")
}

func number(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// oneLine cuts an error for the table's notes.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 600 {
		s = s[:600] + "…"
	}
	return s
}

func (r *report) save(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
