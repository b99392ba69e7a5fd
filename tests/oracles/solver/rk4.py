"""Li et al. 2022: the classical method of Runge and Kutta with E for F and a step of 1."""


def stages(run, y):
    first = run(y)
    second = run(y + first / 2)
    third = run(y + second / 2)
    return first, second, third, run(y + third)


def solve(run, y, numbers):
    first, second, third, fourth = stages(run, y)
    return y + first / 6 + second / 3 + third / 3 + fourth / 6
