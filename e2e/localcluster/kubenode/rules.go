package main

import (
	"strings"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
)

// rememberedRules are iptables of which those that are the network policies' own are looked up once in `fullSync`, not
// whenever a pod changes: nobody else touches them, and each look starts a program, some twenty times for one change on
// each machine.
type rememberedRules struct {
	utils.IPTablesHandler
	mutex   sync.Mutex
	present map[string]bool
	listed  map[string][]string
	fresh   time.Time
}

// own is how the names of the controller's lasting chains begin.
const own = "KUBE-ROUTER-"

func (r *rememberedRules) Exists(table, chain string, rule ...string) (bool, error) {
	return r.remember(strings.Join(append([]string{table, chain}, rule...), " "), func() (bool, error) {
		return r.IPTablesHandler.Exists(table, chain, rule...)
	})
}

func (r *rememberedRules) ChainExists(table, chain string) (bool, error) {
	return r.remember(table+" "+chain, func() (bool, error) { return r.IPTablesHandler.ChainExists(table, chain) })
}

func (r *rememberedRules) AppendUnique(table, chain string, rule ...string) error {
	present, err := r.Exists(table, chain, rule...)
	if err != nil || present {
		return err
	}
	return r.IPTablesHandler.Append(table, chain, rule...)
}

func (r *rememberedRules) List(table, chain string) ([]string, error) {
	if !strings.HasPrefix(chain, own) {
		return r.IPTablesHandler.List(table, chain)
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.expire()
	if lines, ok := r.listed[chain]; ok {
		return lines, nil
	}
	lines, err := r.IPTablesHandler.List(table, chain)
	if err == nil {
		r.listed[chain] = lines
	}
	return lines, err
}

func (r *rememberedRules) Insert(table, chain string, position int, rule ...string) error {
	r.forget()
	return r.IPTablesHandler.Insert(table, chain, position, rule...)
}

func (r *rememberedRules) Delete(table, chain string, rule ...string) error {
	r.forget()
	return r.IPTablesHandler.Delete(table, chain, rule...)
}

// remember asks unless the answer was yes before: what is missing is about to be made.
func (r *rememberedRules) remember(what string, ask func() (bool, error)) (bool, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.expire()
	if r.present[what] {
		return true, nil
	}
	found, err := ask()
	if err == nil && found {
		r.present[what] = true
	}
	return found, err
}

func (r *rememberedRules) expire() {
	if time.Since(r.fresh) > fullSync {
		r.present, r.listed, r.fresh = map[string]bool{}, map[string][]string{}, time.Now()
	}
}

func (r *rememberedRules) forget() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.fresh = time.Time{}
}
