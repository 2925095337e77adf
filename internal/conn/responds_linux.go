//go:build linux && !noloop

package conn

// askLoops has each event loop close a channel. One that has ended needs not.
func (s *Server) askLoops() (answers []<-chan struct{}) {
	all := s.loops.running.Load()
	if all == nil {
		return nil
	}
	for _, l := range *all {
		answer := make(chan struct{})
		if l.post(task{what: answerLoop, answer: answer}) {
			answers = append(answers, answer)
		}
	}
	return answers
}
