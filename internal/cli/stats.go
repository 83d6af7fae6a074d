package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove/internal/engine"
)

type statsOptions struct {
	*app
	all, latest, noReset, noStream, noTrunc bool
	format                                  string
	interval                                int
}

func statsCommand(a *app) *cobra.Command {
	o := &statsOptions{app: a}
	c := &cobra.Command{
		Use: "stats [options] [CONTAINER...]",
		Long: `Display percentage of CPU, memory, network I/O, block I/O and PIDs for one or more containers.

Exit codes:
  125  a container is missing`,
		Example: `  cove stats --all --no-stream
  cove stats ctrID
  cove stats --no-stream --format "table {{.ID}} {{.Name}} {{.MemUsage}}" ctrID`,
		ValidArgsFunction: a.completeContainers(0, running),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.flags(c.Flags())
	return c
}

func (o *statsOptions) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.all, "all", "a", false, "Show all containers. Only running containers are shown by default. The default is false")
	fs.StringVar(&o.format, "format", "", "Pretty-print container statistics to JSON or using a Go template")
	fs.IntVarP(&o.interval, "interval", "i", 5, "Time in seconds between stats reports")
	fs.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest container cove is aware of")
	fs.BoolVar(&o.noReset, "no-reset", false, "Disable resetting the screen between intervals")
	fs.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result, default setting is false")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
}

func (o *statsOptions) run(ctx context.Context, args []string) error {
	n := 0
	for _, b := range []bool{o.all, o.latest, len(args) > 0} {
		if b {
			n++
		}
	}
	if n > 1 {
		return errors.New("--all, --latest and containers cannot be used together")
	}
	if o.interval < 1 {
		return errors.New("invalid interval, must be a positive number greater zero")
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	if o.latest {
		list, err := e.List(ctx, engine.ListOptions{All: true, Latest: true})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errors.New("no containers to act on")
		}
		args = []string{list[0].ID}
	}
	before := map[string]engine.Stats{}
	for {
		list, err := e.Stats(ctx, args, o.all)
		if err != nil {
			return err
		}
		if !o.noStream && !o.noReset && !isJSON(o.format) && o.outTerminal() != nil {
			fmt.Fprint(o.Out, "\x1b[2J\x1b[H")
		}
		if err := o.show(list, before); err != nil || o.noStream {
			return err
		}
		for _, s := range list {
			before[s.ID] = s
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(o.interval) * time.Second):
		}
	}
}

// show prints one round of samples; before are those of the last round.
func (o *statsOptions) show(list []engine.Stats, before map[string]engine.Stats) error {
	rows := make([]statsRow, len(list))
	for i, s := range list {
		var last *engine.Stats
		if b, ok := before[s.ID]; ok {
			last = &b
		}
		rows[i] = newStatsRow(s, last, o.noTrunc)
	}
	if isJSON(o.format) {
		out := make([]statsJSON, len(rows))
		for i, r := range rows {
			out[i] = statsJSON{
				r.ID(), r.Name, r.CPUTime(), r.CPUPerc(), r.AVGCPU(), r.MemUsage(), r.MemPerc(), r.NetIO(), r.BlockIO(), r.PIDS(),
			}
		}
		return o.printJSONIndent(out, " ")
	}
	return listing{
		columns: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}\t{{.CPUTime}}\t{{.AVGCPU}}",
		headers: map[string]string{
			"AVGCPU": "AVG CPU %", "BlockIO": "BLOCK IO", "CPU": "CPU %", "CPUPerc": "CPU %", "CPUTime": "CPU TIME",
			"MemPerc": "MEM %", "MemUsage": "MEM USAGE / LIMIT", "MemUsageBytes": "MEM USAGE / LIMIT", "NetIO": "NET IO", "PIDs": "PIDS", "PIDS": "PIDS",
		},
		format: o.format,
	}.print(o.Out, anys(rows))
}

// statsJSON is podman's JSON shape of one sample.
type statsJSON struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	CPUTime    string `json:"cpu_time"`
	CPUPercent string `json:"cpu_percent"`
	AvgCPU     string `json:"avg_cpu"`
	MemUsage   string `json:"mem_usage"`
	MemPerc    string `json:"mem_percent"`
	NetIO      string `json:"net_io"`
	BlockIO    string `json:"block_io"`
	PIDs       string `json:"pids"`
}

// ContainerStats are the plain numbers of a sample, by podman's names: templates
// see its fields where [statsRow] has no method of the name, and all of them
// as {{.ContainerStats}}.
type ContainerStats struct {
	AvgCPU        float64
	ContainerID   string
	Name          string
	PerCPU        []uint64
	CPU           float64
	CPUNano       uint64
	CPUSystemNano uint64
	SystemNano    uint64
	MemUsage      uint64
	MemLimit      uint64
	MemPerc       float64
	Network       map[string]engine.InterfaceStats
	BlockInput    uint64
	BlockOutput   uint64
	PIDs          uint64
	UpTime        time.Duration // on a processor: podman gives CPUNano too
	Duration      uint64
}

// statsRow is what the templates of stats see.
type statsRow struct {
	ContainerStats
	s    engine.Stats
	full bool
}

// newStatsRow makes a row of a sample; before is that of the last round, if any.
func newStatsRow(s engine.Stats, before *engine.Stats, full bool) statsRow {
	var up time.Duration
	if !s.Started.IsZero() && s.At.After(s.Started) {
		up = s.At.Sub(s.Started)
	}
	c := ContainerStats{
		AvgCPU: share(float64(s.CPUNano), float64(up)), ContainerID: s.ID, Name: s.Name, PerCPU: s.PerCPU,
		CPUNano: s.CPUNano, CPUSystemNano: s.CPUKernNano, SystemNano: uint64(s.At.UnixNano()),
		MemUsage: s.MemUsage, MemLimit: s.MemLimit, MemPerc: share(float64(s.MemUsage), float64(s.MemLimit)),
		Network: s.Interfaces, BlockInput: s.BlockIn, BlockOutput: s.BlockOut, PIDs: s.PIDs,
		UpTime: time.Duration(s.CPUNano), Duration: s.CPUNano,
	}
	c.CPU = c.AvgCPU
	if before != nil {
		c.CPU = share(float64(s.CPUNano-min(s.CPUNano, before.CPUNano)), float64(s.At.Sub(before.At)))
	}
	return statsRow{c, s, full}
}

// ID and its kin are the fields of --format that are not plain.
func (r statsRow) ID() string        { return shortID(r.s.ID, r.full) }
func (r statsRow) Container() string { return r.ID() }
func (r statsRow) PIDS() string      { return fmt.Sprint(r.PIDs) }
func (r statsRow) CPUTime() string   { return time.Duration(r.CPUNano).String() }
func (r statsRow) Up() string        { return r.UpTime.String() }

// CPUPerc is the use of CPU since the last round, of one CPU; AVGCPU since the
// start.
func (r statsRow) CPUPerc() string { return percent(r.CPU) }
func (r statsRow) AVGCPU() string  { return percent(r.AvgCPU) }

// MemUsage is use and limit in decimal units, MemUsageBytes in binary ones.
func (r statsRow) MemUsage() string {
	return units.HumanSize(float64(r.s.MemUsage)) + " / " + units.HumanSize(float64(r.s.MemLimit))
}

func (r statsRow) MemUsageBytes() string {
	return units.BytesSize(float64(r.s.MemUsage)) + " / " + units.BytesSize(float64(r.s.MemLimit))
}

func (r statsRow) MemPerc() string { return percent(r.ContainerStats.MemPerc) }

func (r statsRow) NetIO() string {
	return units.HumanSize(float64(r.s.NetIn)) + " / " + units.HumanSize(float64(r.s.NetOut))
}

func (r statsRow) BlockIO() string {
	return units.HumanSize(float64(r.s.BlockIn)) + " / " + units.HumanSize(float64(r.s.BlockOut))
}

// share is part of whole in per cent.
func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return part / whole * 100
}

func percent(share float64) string { return fmt.Sprintf("%.2f%%", share) }
