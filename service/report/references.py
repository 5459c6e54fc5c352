"""The literature that reports cite, by author and year."""

__all__ = ["Citations"]

from typing import Final

# Short name -> citation, entry in the list of references.
_WORKS: Final[dict[str, tuple[str, str]]] = {
    "optuna": (
        "Akiba et al., 2019",
        (
            "T. Akiba, S. Sano, T. Yanase, T. Ohta and M. Koyama. Optuna: A next-generation hyperparameter "
            "optimization framework. KDD 2019."
        ),
    ),
    "logei": (
        "Ament et al., 2023",
        (
            "S. Ament, S. Daulton, D. Eriksson, M. Balandat and E. Bakshy. Unexpected improvements to "
            "expected improvement for Bayesian optimization. NeurIPS 2023."
        ),
    ),
    "tpe": (
        "Bergstra et al., 2011",
        (
            "J. Bergstra, R. Bardenet, Y. Bengio and B. Kégl. Algorithms for "
            "hyper-parameter optimization. NeurIPS 2011."
        ),
    ),
    "random": (
        "Bergstra and Bengio, 2012",
        "J. Bergstra and Y. Bengio. Random search for hyper-parameter optimization. JMLR 13, 2012.",
    ),
    "multiplier-bootstrap": (
        "Chernozhukov et al., 2013",
        (
            "V. Chernozhukov, D. Chetverikov and K. Kato. Gaussian approximations and multiplier bootstrap "
            "for maxima of sums of high-dimensional random vectors. Annals of Statistics 41(6), 2013."
        ),
    ),
    "expected-best": (
        "Dodge et al., 2019",
        (
            "J. Dodge, S. Gururangan, D. Card, R. Schwartz and N. A. Smith. Show your work: Improved "
            "reporting of experimental results. EMNLP 2019."
        ),
    ),
    "jackknife": (
        "Efron and Stein, 1981",
        "B. Efron and C. Stein. The jackknife estimate of variance. Annals of Statistics 9(3), 1981.",
    ),
    "vizier": (
        "Golovin et al., 2017",
        (
            "D. Golovin, B. Solnik, S. Moitra, G. Kochanski, J. Karro and D. Sculley. Google Vizier: A "
            "service for black-box optimization. KDD 2017."
        ),
    ),
    "warm-up": (
        "Goyal et al., 2017",
        (
            "P. Goyal, P. Dollár, R. Girshick, P. Noordhuis, L. Wesolowski, A. Kyrola, A. Tulloch, Y. Jia "
            "and K. He. Accurate, large minibatch SGD: Training ImageNet in 1 hour. arXiv:1706.02677, 2017."
        ),
    ),
    "cmaes": ("Hansen, 2016", "N. Hansen. The CMA evolution strategy: A tutorial. arXiv:1604.00772, 2016."),
    "hedges": (
        "Hedges, 1981",
        (
            "L. V. Hedges. Distribution theory for Glass's estimator of effect size and related "
            "estimators. J. of Educational Statistics 6(2), 1981."
        ),
    ),
    "u-statistic": (
        "Hoeffding, 1948",
        (
            "W. Hoeffding. A class of statistics with asymptotically normal distribution. Annals of "
            "Mathematical Statistics 19(3), 1948."
        ),
    ),
    "holm": (
        "Holm, 1979",
        (
            "S. Holm. A simple sequentially rejective multiple test procedure. Scandinavian "
            "Journal of Statistics 6(2), 1979."
        ),
    ),
    "hyperband": (
        "Li et al., 2018",
        (
            "L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh and A. Talwalkar. Hyperband: A novel "
            "bandit-based approach to hyperparameter optimization. JMLR 18(185), 2018."
        ),
    ),
    "asha": (
        "Li et al., 2020",
        (
            "L. Li, K. Jamieson, A. Rostamizadeh, E. Gonina, J. Ben-tzur, M. Hardt, B. Recht and A. "
            "Talwalkar. A system for massively parallel hyperparameter tuning. MLSys 2020."
        ),
    ),
    "spending": (
        "Lan and DeMets, 1983",
        (
            "K. K. G. Lan and D. L. DeMets. Discrete sequential boundaries for clinical trials. Biometrika "
            "70(3), 1983."
        ),
    ),
    "cosine": (
        "Loshchilov and Hutter, 2017",
        "I. Loshchilov and F. Hutter. SGDR: Stochastic gradient descent with warm restarts. ICLR 2017.",
    ),
    "clipping": (
        "Pascanu et al., 2013",
        (
            "R. Pascanu, T. Mikolov and Y. Bengio. On the difficulty of training recurrent neural networks. "
            "ICML 2013."
        ),
    ),
    "averages": (
        "Polyak and Juditsky, 1992",
        (
            "B. T. Polyak and A. B. Juditsky. Acceleration of stochastic approximation by averaging. SIAM J. "
            "on Control and Optimization 30(4), 1992."
        ),
    ),
    "step-down": (
        "Romano and Wolf, 2005",
        (
            "J. P. Romano and M. Wolf. Stepwise multiple testing as formalized data snooping. Econometrica "
            "73(4), 2005."
        ),
    ),
    "label smoothing": (
        "Szegedy et al., 2016",
        (
            "C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna. Rethinking the Inception "
            "architecture for computer vision. CVPR 2016."
        ),
    ),
    "one-cycle": (
        "Smith and Topin, 2018",
        (
            "L. N. Smith and N. Topin. Super-convergence: Very fast training of neural networks using large "
            "learning rates. arXiv:1708.07120, 2018."
        ),
    ),
    "step": (
        "He et al., 2016",
        "K. He, X. Zhang, S. Ren and J. Sun. Deep residual learning for image recognition. CVPR 2016.",
    ),
    "wsd": (
        "Hu et al., 2024",
        (
            "S. Hu, Y. Tu, X. Han, C. He et al. MiniCPM: Unveiling the potential of small language models "
            "with scalable training strategies. COLM 2024."
        ),
    ),
    "bands": (
        "Lourie et al., 2024",
        (
            "N. Lourie, K. Cho and H. He. Show your work with confidence: Confidence "
            "bands for tuning curves. NAACL 2024."
        ),
    ),
    "sobol": (
        "Sobol', 1967",
        (
            "I. M. Sobol'. On the distribution of points in a cube and the approximate evaluation of "
            "integrals. USSR Computational Mathematics and Mathematical Physics 7(4), 1967."
        ),
    ),
    "importances": (
        "Watanabe et al., 2023",
        (
            "S. Watanabe, A. Bansal and F. Hutter. PED-ANOVA: Efficiently quantifying hyperparameter "
            "importance in arbitrary subspaces. IJCAI 2023."
        ),
    ),
}


class Citations:
    """Collects the works that a text cites, in order of first mention."""

    def __init__(self) -> None:
        self._cited: list[str] = []

    def __call__(self, *names: str) -> str:
        """Return a citation in parentheses, e.g. `(Li et al., 2020)`, and add the works to the references."""
        self._cited += [name for name in names if name not in self._cited]
        return f"({'; '.join(_WORKS[name][0] for name in names)})"

    @property
    def references(self) -> tuple[str, ...]:
        """The list of references."""
        return tuple(_WORKS[name][1] for name in self._cited)
