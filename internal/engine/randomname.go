package engine

import (
	"math/rand/v2"
	"strings"
)

// randomName makes a name in the field's form, an adjective and the name of
// somebody to whom science or computing owes something.
func randomName() string {
	return pick(adjectives) + "_" + pick(people)
}

func pick(words string) string {
	all := strings.Fields(words)
	return all[rand.IntN(len(all))]
}

const adjectives = `able agile amber ample apt artful astute balmy blithe bold brave breezy bright brisk calm candid
casual cheery civil clear clever cosy crisp curious daring deft dapper dreamy eager early earnest easy elated elegant
epic fair famous fancy festive fluent fond frank free fresh friendly frosty funny gallant gentle gifted glad gleaming
golden graceful grand happy hardy hearty honest hopeful humble jolly jovial keen kind lively loyal lucid lucky magic
mellow merry mild modest neat nifty nimble noble patient peaceful placid plucky polite proud quaint quick quiet rapid
ready relaxed robust rosy serene sharp shiny silent silver sincere sleek smart snappy solid spry stable steady stoic
sunny supple swift tender thrifty tidy tranquil trusty upbeat valiant vibrant vigilant vivid warm wise witty zealous zesty`

const people = `abel ada agnesi alhazen ampere anning archimedes aryabhata avogadro babbage banach bardeen bassi bell
bernoulli bhaskara blackwell bohr boltzmann boole born bose boyle brahe brahmagupta brattain carson cartwright cauchy
cavendish cerf chandrasekhar chatelet chomsky church clarke cori coulomb crick curie dalton darwin davinci descartes
dijkstra dirac easley edison einstein elion engelbart euclid euler faraday fermat fermi feynman fibonacci floyd fourier
franklin galileo galois gauss germain gibbs goedel goodall hamilton haslett hawking heisenberg hermann herschel hertz
hilbert hodgkin hoover hopper huygens hypatia jemison jones joule kalam kapitsa kepler khayyam kirch knuth kovalevskaya
lalande lamarr landau laplace lavoisier leakey leavitt leibniz lovelace lumiere mahavira margulis maxwell mayer
mccarthy mcclintock meitner mendel mendeleev mirzakhani moore morse napier nash neumann newton nightingale nobel
noether noyce panini pascal pasteur pauling payne perlman pike planck poincare ptolemy raman ramanujan ritchie roentgen
rosalind rubin saha salk sammet sanderson shannon shockley sinoussi stallman sutherland swanson tesla tharp thompson
torvalds turing villani volta wescoff wiles williams wing wozniak wright wu yalow yonath zhukovsky`
