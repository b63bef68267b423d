package emu

// Freeze stops everything that a device does after so many more turns of its
// kernels, as if its process had been stopped at that moment: what they have
// written stays, and nothing follows. A turn is a visible operation, or a few weak
// accesses. Other devices go on, and virtual time passes for them. A host that
// waits for the frozen device itself waits in vain: Thaw it first.
//
// Only machines that judge (Check and Explore) can do it, since only they know
// turns.
func (d *Driver) Freeze(device int, after int64) {
	d.judging().freeze(d.devices[device], after)
}

// Thaw lets a device that Freeze has stopped, or is about to, go on.
func (d *Driver) Thaw(device int) { d.judging().thaw(d.devices[device]) }

// Turns is how many turns a device's kernels have taken so far.
func (d *Driver) Turns(device int) int64 {
	s := d.judging()
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.devices[device].turns
}

func (d *Driver) judging() *checkScheduler {
	s, ok := d.sched.(*checkScheduler)
	if !ok {
		panic("emu: only a machine that judges can be stopped at a turn: set Config.Mode")
	}
	return s
}

func (s *checkScheduler) freeze(dev *Device, after int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dev.stopAt = dev.turns + after
	dev.stops = true
	s.mayFreeze(dev)
}

// took counts a turn of the device.
func (s *checkScheduler) took(dev *Device) {
	dev.turns++
	s.mayFreeze(dev)
}

// mayFreeze stops a device whose moment has come; mu is held.
func (s *checkScheduler) mayFreeze(dev *Device) {
	if !dev.stops || dev.frozen || dev.turns < dev.stopAt {
		return
	}
	dev.frozen = true
	for _, b := range s.blocks {
		if b.g.dev == dev {
			for _, w := range b.warps {
				s.sleep(w)
			}
		}
	}
	keep := s.tasks[:0]
	for _, t := range s.tasks {
		if t.device() == dev {
			s.held = append(s.held, t)
		} else {
			keep = append(keep, t)
		}
	}
	s.tasks = keep
}

func (s *checkScheduler) thaw(dev *Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dev.stops, dev.frozen = false, false
	for _, b := range s.blocks {
		if b.g.dev == dev {
			for _, w := range b.warps {
				s.unpark(w) // it looks at everything again
			}
		}
	}
	keep := s.held[:0]
	for _, t := range s.held {
		if t.device() == dev {
			s.tasks = append(s.tasks, t)
		} else {
			keep = append(keep, t)
		}
	}
	s.held = keep
}

// device is where a task runs.
func (t *fresh) device() *Device {
	switch {
	case t.job != nil:
		return t.job.w.b.g.dev
	case t.n != nil:
		return t.n.dev
	}
	return t.b.g.dev
}
